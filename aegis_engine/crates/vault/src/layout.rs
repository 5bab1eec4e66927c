//! Where things lie in a vault folder, and `vault.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::files;
use crate::provider::Kind;

/// Paths of one vault.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }
    pub fn about(&self) -> PathBuf {
        self.root.join("vault.json")
    }
    pub fn keystore(&self) -> PathBuf {
        self.root.join("keystore.akv")
    }
    pub fn epoch_key(&self) -> PathBuf {
        self.root.join("epoch.key")
    }
    pub fn epoch_next(&self) -> PathBuf {
        self.root.join("epoch.key.next")
    }
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }
    pub fn consent(&self) -> PathBuf {
        self.root.join("consent")
    }
    pub fn lineage(&self) -> PathBuf {
        self.root.join("lineage")
    }
    /// `objects/ab/<uuid>.enc`, by the first byte of the id.
    pub fn object(&self, id: Uuid) -> PathBuf {
        self.objects()
            .join(format!("{:02x}", id.as_bytes()[0]))
            .join(format!("{id}.enc"))
    }
    /// The intent of a store of many objects.
    pub fn stores_intent(&self, first: Uuid) -> PathBuf {
        self.journal().join(format!("{first}.stores"))
    }
    /// The same while it is written.
    pub fn object_tmp(&self, id: Uuid) -> PathBuf {
        self.object(id).with_extension("enc.tmp")
    }
    pub fn store_intent(&self, id: Uuid) -> PathBuf {
        self.journal().join(format!("{id}.store"))
    }
    pub fn reencrypt_intent(&self, id: Uuid) -> PathBuf {
        self.journal().join(format!("{id}.reencrypt"))
    }
    pub fn destroy_intent(&self) -> PathBuf {
        self.journal().join("vault.destroy")
    }
    pub fn shred_intent(&self, id: Uuid) -> PathBuf {
        self.journal().join(format!("{id}.shred"))
    }
}

const ABOUT_MAX: u64 = 64 * 1024;

/// `vault.json`: public, no secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct About {
    format: String,
    version: u32,
    pub id: Uuid,
    pub provider: String,
    /// Highest epoch reached: an older keystore is a rolled-back one.
    pub epoch: u64,
    /// When the whole vault was destroyed, seconds since 1970. What is left is finished at the next open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<u64>,
}

impl About {
    pub fn new(id: Uuid, provider: Kind, epoch: u64) -> Self {
        let provider = provider.name().to_owned();
        Self {
            format: "aegis-vault".to_owned(),
            version: 1,
            id,
            provider,
            epoch,
            destroyed: None,
        }
    }

    /// Told apart: nothing there, something else there, a later version.
    pub fn read(layout: &Layout) -> Result<Self> {
        let not_a_vault = |reason: &str| VaultError::NotAVault {
            path: layout.root.clone(),
            reason: reason.to_owned(),
        };
        if !layout.root.exists() {
            return Err(VaultError::NotFound {
                path: layout.root.clone(),
            });
        }
        if !layout.root.is_dir() {
            return Err(not_a_vault("it is not a folder"));
        }
        let path = layout.about();
        let keystore = layout.keystore().exists();
        if !path.exists() {
            return Err(not_a_vault(if keystore {
                "vault.json is missing beside a keystore, `aegis vault fsck --repair` writes it anew"
            } else {
                "vault.json is missing"
            }));
        }
        Self::decode(&files::read(&path, ABOUT_MAX)?, layout, keystore)
    }

    /// `keystore`: whether there is one beside it, so that this was a vault.
    pub fn decode(bytes: &[u8], layout: &Layout, keystore: bool) -> Result<Self> {
        let path = || layout.root.clone();
        let not_a_vault = |reason: &str| VaultError::NotAVault {
            path: path(),
            reason: reason.to_owned(),
        };
        let damaged = |reason: &str| {
            if keystore {
                VaultError::AboutDamaged {
                    path: path(),
                    reason: reason.to_owned(),
                }
            } else {
                not_a_vault(reason)
            }
        };
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|_| damaged("it is not JSON"))?;
        if value["format"] != "aegis-vault" {
            return Err(not_a_vault("vault.json is of another program"));
        }
        if value["version"] != 1 {
            let detail = format!("version {}", value["version"]);
            return Err(VaultError::UnsupportedFormat {
                what: "vault.json".to_owned(),
                detail,
            });
        }
        serde_json::from_value(value).map_err(|_| damaged("a field is missing or wrong"))
    }

    pub fn write(&self, layout: &Layout) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|_| VaultError::BadRequest {
            what: "vault.json cannot be encoded".to_owned(),
        })?;
        text.push(b'\n');
        files::replace(&layout.about(), &text)
    }
}
