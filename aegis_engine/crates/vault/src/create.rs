//! Making a vault, only where nothing can be lost.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use aegis_audit::Event;
use serde_json::json;

use crate::auth::Auth;
use crate::envelope::{self, Form};
use crate::epoch::EpochKey;
use crate::error::{Result, VaultError};
use crate::files;
use crate::keystore::{Body, Delta};
use crate::layout::{About, Layout};
use crate::lock;
use crate::provider::Provider;
use crate::secret;
use crate::vault::{LOCK_WAIT_MS, Vault};

impl Vault {
    /// Creates a vault in a new or empty folder.
    pub fn create(path: &Path, provider: &Provider) -> Result<Self> {
        let layout = Layout::new(path);
        if layout.about().exists() {
            return Err(VaultError::AlreadyExists {
                path: path.to_path_buf(),
            });
        }
        check_free(&layout)?;
        // Before anything is made: a key that is not there leaves no folder behind.
        let id = secret::uuid()?;
        let auth = Auth::fresh(id, provider)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(VaultError::io("create folder", path))?;
        let held = lock::exclusive(&layout.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
        if layout.about().exists() {
            return Err(VaultError::AlreadyExists {
                path: path.to_path_buf(),
            });
        }
        check_free(&layout)?;
        files::create_dir(&layout.objects())?;
        files::create_dir(&layout.journal())?;
        let first = EpochKey::random(1)?;
        first.write_first(&layout, id, provider)?;
        let envelope = auth.envelope(Form::Keystore, id, 1, 1);
        let (root, body) = (auth.root(id, &first)?, Body::new()?);
        let base = envelope::seal(&envelope, &root, &body, &Delta::default(), &body.audit)?;
        files::replace(&layout.keystore(), &base.bytes)?;
        // Last: a folder is a vault from here on.
        About::new(id, provider.kind(), 1).write(&layout)?;
        drop(held);
        let vault = Self::open(path, provider)?;
        let facts = json!({"vault": id.to_string(), "epoch": 1});
        vault.inner.log.record(Event::VaultCreate, facts)?;
        Ok(vault)
    }

    /// Opens the vault at `path`, or creates one where there is nothing.
    pub fn open_or_create(path: &Path, provider: &Provider) -> Result<Self> {
        let layout = Layout::new(path);
        if !layout.about().exists() && check_free(&layout).is_ok() {
            match Self::create(path, provider) {
                // Another process was faster.
                Err(VaultError::AlreadyExists { .. }) => {}
                made => return made,
            }
        }
        Self::open(path, provider)
    }
}

/// Only a new or empty folder may become a vault; what an interrupted `create` left counts as empty.
fn check_free(layout: &Layout) -> Result<()> {
    let ours = [
        "lock",
        "epoch.key",
        "epoch.key.tmp",
        "keystore.akv",
        "keystore.akv.tmp",
        "vault.json.tmp",
    ];
    let not_free = |reason: String| VaultError::NotAVault {
        path: layout.root.clone(),
        reason,
    };
    if !layout.root.exists() {
        return Ok(());
    }
    let entries =
        fs::read_dir(&layout.root).map_err(|_| not_free("it is not a folder".to_owned()))?;
    for entry in entries {
        let entry = entry.map_err(VaultError::io("list", &layout.root))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let empty = || fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none());
        let known = ours.contains(&&*name) || (["objects", "journal"].contains(&&*name) && empty());
        if !known {
            return Err(not_free("it has no vault.json, but other files".to_owned()));
        }
    }
    Ok(())
}
