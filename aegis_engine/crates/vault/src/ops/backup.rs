//! Backups of the keystore, made on purpose, under a recovery key of their own: the only protection against its loss,
//! and copies that shredding does not reach. So each is on record, in the keystore and in every later receipt.

use std::io::Write;
use std::path::Path;

use aegis_audit::Event;
use serde_json::json;

use crate::error::{Result, VaultError};
use crate::format::envelope::{self, Form};
use crate::format::keystore::{Delta, KnownCopy};
use crate::format::name;
use crate::keys::auth::Auth;
use crate::keys::epoch::EpochKey;
use crate::keys::provider::{Kind, Provider};
use crate::secret::Secret;
use crate::system::failpoint;
use crate::system::outside;
use crate::vault::{Vault, now};

/// A backup has no epoch secret: its recovery key alone opens it.
pub(crate) fn backup_epoch(epoch: u64) -> EpochKey {
    EpochKey {
        epoch,
        secret: Secret::write(|_| ()),
    }
}

/// Refuses what a backup is not sealed under.
pub(crate) fn no_wrapping(recovery: &Provider) -> Result<()> {
    if matches!(recovery.kind(), Kind::Key | Kind::Passphrase) {
        return Ok(());
    }
    Err(VaultError::BadRequest {
        what: "a backup is sealed under a recovery key or a passphrase, not under a token or key service"
            .to_owned(),
    })
}

impl Vault {
    /// Writes the keystore to the new file `path` under `recovery`, which should not lie beside it. The copy is on record
    /// before the file exists.
    pub fn backup_keystore(&self, path: &Path, recovery: &Provider) -> Result<()> {
        no_wrapping(recovery)?;
        let label = path.display().to_string();
        name::check_length(&label)?;
        let auth = Auth::fresh(self.inner.id, recovery)?;
        // Refuses what exists, and shows that the place can be written to, before the copy is put on record.
        let mut file = outside::create_new(path)?;
        failpoint::point("backup.created")?;
        let mut exclusive = self.inner.exclusive()?;
        let (epoch, generation) = (exclusive.epoch, exclusive.generation + 1);
        exclusive.delta.copies.push(KnownCopy {
            when: now(),
            epoch,
            generation,
            label,
        });
        let facts = json!({
            "epoch": epoch, "generation": generation, "provider": recovery.kind().name(),
        });
        self.inner.log.record(Event::KeystoreBackup, facts)?;
        failpoint::point("backup.logged")?;
        exclusive.commit()?;
        let envelope = auth.envelope(Form::Backup, self.inner.id, epoch, generation);
        let root = auth.root(self.inner.id, &backup_epoch(epoch))?;
        let sealed = {
            let body = &exclusive.state().body;
            envelope::seal(&envelope, &root, body, &Delta::default(), &body.audit)?.bytes
        };
        exclusive.done()?;
        file.write_all(&sealed)
            .map_err(VaultError::io("write", path))?;
        failpoint::point("backup.written")?;
        file.sync_all().map_err(VaultError::io("fsync", path))?;
        outside::sync_parent(path)
    }
}
