//! Making a vault, only where nothing can be lost.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_audit::Event;
use serde_json::json;

use crate::error::{Result, VaultError};
use crate::format::envelope::{self, Form};
use crate::format::keystore::{Body, Delta, NamedHead};
use crate::format::paths::{About, Paths};
use crate::keys::auth::Auth;
use crate::keys::epoch::EpochKey;
use crate::keys::provider::Provider;
use crate::ops::open::Opening;
use crate::secret;
use crate::system::files::{self, Entry, Folder, Kind};
use crate::system::lock;
use crate::vault::consents;
use crate::vault::{LOCK_WAIT_MS, Vault};

impl Vault {
    /// Creates a vault in a new or empty folder, which is then open to nobody else.
    pub fn create(path: &Path, provider: &Provider) -> Result<Self> {
        if let Some(paths) = there(path)? {
            free(&paths)?;
        }
        // Before anything is made: a key that is not there leaves no folder behind. It is asked for once.
        let id = secret::uuid()?;
        let auth = Arc::new(Auth::fresh(id, provider)?);
        let folder = Folder::open_or_create(path).map_err(VaultError::io("create folder", path))?;
        let paths = Paths::of(folder);
        let held = lock::exclusive(&paths.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
        free(&paths)?;
        if !paths
            .folder
            .tighten()
            .map_err(VaultError::io("chmod", path))?
        {
            let what = format!(
                "{} is open to others and belongs to somebody else; make a folder of your own for the vault",
                path.display()
            );
            return Err(VaultError::BadRequest { what });
        }
        files::create_dir(&paths.objects())?;
        files::create_dir(&paths.journal())?;
        let first = EpochKey::random(1)?;
        first.write_first(&paths, id, provider)?;
        let envelope = auth.envelope(Form::Keystore, id, 1, 1);
        let (root, mut body) = (auth.root(id, &first)?, Body::new()?);
        // Nothing is in the consent ledger yet: whatever is there later without a proof was not written by this vault.
        let nothing = NamedHead {
            count: 0,
            mac: [0; 32],
        };
        body.heads.insert(consents::HEAD.to_owned(), nothing);
        let base = envelope::seal(&envelope, &root, &body, &Delta::default(), &body.audit)?;
        files::replace(&paths.keystore(), &base.bytes)?;
        // Last: a folder is a vault from here on.
        About::new(id, provider.kind(), 1).write(&paths)?;
        drop(held);
        let opening = Opening {
            auth: Some(auth),
            ..Opening::default()
        };
        let (vault, held) = opening.open(&paths, provider)?;
        drop(held);
        let facts = json!({"vault": id.to_string(), "epoch": 1});
        vault.inner.log.record(Event::VaultCreate, facts)?;
        Ok(vault)
    }

    /// Opens the vault at `path`, or creates one where there is nothing.
    pub fn open_or_create(path: &Path, provider: &Provider) -> Result<Self> {
        let nothing = match there(path)? {
            Some(paths) => free(&paths).is_ok(),
            None => true,
        };
        if nothing {
            match Self::create(path, provider) {
                // Another process was faster.
                Err(VaultError::AlreadyExists { .. }) => {}
                made => return made,
            }
        }
        Self::open(path, provider)
    }
}

/// The folder, if there is one.
fn there(path: &Path) -> Result<Option<Paths>> {
    match Paths::open(path) {
        Ok(paths) => Ok(Some(paths)),
        Err(VaultError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Only a new or empty folder may become a vault; what an interrupted `create` left counts as empty.
fn free(paths: &Paths) -> Result<()> {
    if files::exists(&paths.about())? {
        return Err(VaultError::AlreadyExists {
            path: paths.root.clone(),
        });
    }
    let files = [
        "lock",
        "epoch.key",
        "epoch.key.tmp",
        "keystore.akv",
        "keystore.akv.tmp",
        "vault.json.tmp",
    ];
    let one_of = |names: &[&str], entry: &Entry| names.iter().any(|n| entry.name == OsStr::new(n));
    for entry in files::list(&paths.folder.here())? {
        let known = match entry.kind {
            Kind::File => one_of(&files, &entry),
            Kind::Dir => {
                one_of(&["objects", "journal"], &entry) && files::list(&entry.place)?.is_empty()
            }
            Kind::Other(_) => false,
        };
        if !known {
            return Err(VaultError::NotAVault {
                path: paths.root.clone(),
                reason: "it has no vault.json, but other files".to_owned(),
            });
        }
    }
    Ok(())
}
