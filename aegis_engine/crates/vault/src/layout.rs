//! Where things lie in a vault folder, and `vault.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::files;

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
    /// `objects/ab/<uuid>.enc`, by the first byte of the id.
    pub fn object(&self, id: Uuid) -> PathBuf {
        self.objects()
            .join(format!("{:02x}", id.as_bytes()[0]))
            .join(format!("{id}.enc"))
    }
    /// The same while it is written.
    pub fn object_tmp(&self, id: Uuid) -> PathBuf {
        self.object(id).with_extension("enc.tmp")
    }
    pub fn store_intent(&self, id: Uuid) -> PathBuf {
        self.journal().join(format!("{id}.store"))
    }
    pub fn shred_intent(&self, id: Uuid) -> PathBuf {
        self.journal().join(format!("{id}.shred"))
    }
}

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
}

impl About {
    pub fn new(id: Uuid, provider: u16, epoch: u64) -> Self {
        let provider = if provider == 1 { "raw" } else { "keyfile" }.to_owned();
        Self {
            format: "aegis-vault".to_owned(),
            version: 1,
            id,
            provider,
            epoch,
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
        if !path.exists() {
            return Err(not_a_vault("vault.json is missing"));
        }
        let bytes = files::read(&path, 64 * 1024)?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|_| not_a_vault("vault.json is not JSON"))?;
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
        serde_json::from_value(value).map_err(|_| not_a_vault("vault.json is damaged"))
    }

    pub fn write(&self, layout: &Layout) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|_| VaultError::BadRequest {
            what: "vault.json cannot be encoded".to_owned(),
        })?;
        text.push(b'\n');
        files::replace(&layout.about(), &text)
    }
}
