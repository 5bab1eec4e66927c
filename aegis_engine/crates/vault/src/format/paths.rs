//! Where things lie in a vault folder, and `vault.json`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::kind::Kind;
use crate::system::files::{self, Folder, Place};

/// Places of one vault, all below its folder, which is opened once.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// For messages, and for who opens the vault anew: absolute.
    pub root: PathBuf,
    pub folder: Folder,
}

impl Paths {
    /// Opens the folder, told apart: nothing there, no folder. Whether it is a vault, [`About::read`] says.
    pub fn open(path: &Path) -> Result<Self> {
        match Folder::open(path) {
            Ok(folder) => Ok(Self::of(folder)),
            Err(error) => Err(match error.kind() {
                ErrorKind::NotFound => VaultError::NotFound {
                    path: path.to_path_buf(),
                },
                ErrorKind::NotADirectory => VaultError::NotAVault {
                    path: path.to_path_buf(),
                    reason: "it is not a folder".to_owned(),
                },
                _ => VaultError::io("open", path)(error),
            }),
        }
    }
    pub fn of(folder: Folder) -> Self {
        Self {
            root: folder.path().to_path_buf(),
            folder,
        }
    }
    #[cfg(test)]
    pub fn new(path: &Path) -> Self {
        Self::open(path).expect("a folder")
    }
    pub fn about(&self) -> Place {
        self.folder.place("vault.json")
    }
    pub fn keystore(&self) -> Place {
        self.folder.place("keystore.akv")
    }
    pub fn epoch_key(&self) -> Place {
        self.folder.place("epoch.key")
    }
    pub fn epoch_next(&self) -> Place {
        self.folder.place("epoch.key.next")
    }
    pub fn lock(&self) -> Place {
        self.folder.place("lock")
    }
    pub fn objects(&self) -> Place {
        self.folder.place("objects")
    }
    pub fn journal(&self) -> Place {
        self.folder.place("journal")
    }
    pub fn audit(&self) -> Place {
        self.folder.place("audit")
    }
    pub fn consent(&self) -> Place {
        self.folder.place("consent")
    }
    pub fn lineage(&self) -> Place {
        self.folder.place("lineage")
    }
    /// `objects/ab/<uuid>.enc`, by the first byte of the id.
    pub fn object(&self, id: Uuid) -> Place {
        self.folder
            .place(format!("objects/{:02x}/{id}.enc", id.as_bytes()[0]))
    }
    /// The intent of a store of many objects.
    pub fn stores_intent(&self, first: Uuid) -> Place {
        self.journal().join(format!("{first}.stores"))
    }
    /// The same while it is written.
    pub fn object_tmp(&self, id: Uuid) -> Place {
        self.object(id).with_suffix(".tmp")
    }
    pub fn store_intent(&self, id: Uuid) -> Place {
        self.journal().join(format!("{id}.store"))
    }
    pub fn reencrypt_intent(&self, id: Uuid) -> Place {
        self.journal().join(format!("{id}.reencrypt"))
    }
    pub fn destroy_intent(&self) -> Place {
        self.journal().join("vault.destroy")
    }
    pub fn shred_intent(&self, id: Uuid) -> Place {
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
    pub fn read(paths: &Paths) -> Result<Self> {
        let path = paths.about();
        let keystore = files::exists(&paths.keystore())?;
        if !files::exists(&path)? {
            return Err(VaultError::NotAVault {
                path: paths.root.clone(),
                reason: if keystore {
                    "vault.json is missing beside a keystore, `aegis vault fsck --repair` writes it anew"
                } else {
                    "vault.json is missing"
                }
                .to_owned(),
            });
        }
        Self::decode(&files::read(&path, ABOUT_MAX)?, &paths.root, keystore)
    }

    /// `keystore`: whether there is one beside it, so that this was a vault.
    pub fn decode(bytes: &[u8], root: &Path, keystore: bool) -> Result<Self> {
        let path = || root.to_path_buf();
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

    pub fn write(&self, paths: &Paths) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|_| VaultError::BadRequest {
            what: "vault.json cannot be encoded".to_owned(),
        })?;
        text.push(b'\n');
        files::replace(&paths.about(), &text)
    }
}
