//! Backups of the keystore, made on purpose, under a recovery key of their own: the only protection against its loss,
//! and copies that shredding does not reach. So each is on record, in the keystore and in every later receipt.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_audit::{Head, Log, Record};
use serde_json::json;

use crate::auth::Auth;
use crate::envelope::{self, Form};
use crate::epoch::EpochKey;
use crate::error::{Result, VaultError};
use crate::exclusive::Exclusive;
use crate::fail;
use crate::files;
use crate::keystore::{Body, KnownCopy};
use crate::layout::{About, Layout};
use crate::lock;
use crate::outside;
use crate::provider::{Kind, Provider};
use crate::reencrypt::REENCRYPTED_EVENT;
use crate::rename::check_name;
use crate::secret::Secret;
use crate::shred::{self, SHRED_EVENT};
use crate::vault::{KEYSTORE_MAX, LOCK_WAIT_MS, Opening, Vault, generation, now, walk};

/// What a restore demands of the audit log, from which it learns what was shredded since the backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogTrust {
    /// A head kept elsewhere, which the log must contain. The backup remembers one of its own; what came after that, only
    /// whoever kept a later one knows.
    pub expect: Option<Head>,
    /// Goes on without the records that are lost; what was shredded by them is back, where its file is.
    pub accept_lost: bool,
}

/// A backup has no epoch secret: its recovery key alone opens it.
fn backup_epoch(epoch: u64) -> EpochKey {
    EpochKey {
        epoch,
        secret: Secret::write(|_| ()),
    }
}

fn no_wrapping(recovery: &Provider) -> Result<()> {
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
        check_name(&label)?;
        let auth = Auth::fresh(self.inner.id, recovery)?;
        // Refuses what exists, and shows that the place can be written to, before the copy is put on record.
        let mut file = outside::create_new(path)?;
        fail::point("backup.created")?;
        let mut exclusive = self.inner.exclusive()?;
        let (epoch, generation) = (exclusive.epoch, exclusive.generation + 1);
        exclusive.body.copies.push(KnownCopy {
            when: now(),
            epoch,
            generation,
            label,
        });
        self.inner.log.append(&json!({
            "event": "keystore.backup", "epoch": epoch, "generation": generation, "provider": recovery.kind().name(),
        }))?;
        fail::point("backup.logged")?;
        exclusive.commit()?;
        let envelope = auth.envelope(Form::Backup, self.inner.id, epoch, generation);
        let root = auth.root(self.inner.id, &backup_epoch(epoch))?;
        let sealed = envelope::seal(&envelope, &root, &exclusive.body)?;
        exclusive.done()?;
        file.write_all(&sealed)
            .map_err(VaultError::io("write", path))?;
        fail::point("backup.written")?;
        file.sync_all().map_err(VaultError::io("fsync", path))?;
        outside::sync_parent(path)
    }

    /// Puts a keystore backup into the vault folder `path`, whose keystore or epoch secret was lost, under `provider`.
    /// What the audit log proves was shredded or re-encrypted since stays so; files stored since have no key any more
    /// (`fsck` names them).
    ///
    /// # Errors
    /// [`VaultError::AuditRollback`] when the log does not go on from where it was at the backup, or from `trust.expect`:
    /// what was shredded since would come back.
    pub fn restore_keystore(
        path: &Path,
        backup: &Path,
        recovery: &Provider,
        provider: &Provider,
        trust: LogTrust,
    ) -> Result<Self> {
        no_wrapping(recovery)?;
        let layout = Layout::open(path)?;
        let bytes = outside::read(backup, KEYSTORE_MAX)?;
        let envelope = envelope::peek(&bytes, Form::Backup)?;
        let id = envelope.vault;
        let reached = match About::read(&layout) {
            Ok(About {
                destroyed: Some(when),
                ..
            }) => {
                return Err(VaultError::VaultDestroyed {
                    path: path.to_path_buf(),
                    when,
                });
            }
            Ok(about) if about.id != id => {
                return Err(VaultError::BadRequest {
                    what: format!(
                        "the backup is of vault {id}, {} is vault {}; take the backup of this vault",
                        path.display(),
                        about.id
                    ),
                });
            }
            Ok(about) => about.epoch,
            Err(_) => 0, // vault.json is lost, too: it is written anew below
        };
        // Asked once, and before anything is changed.
        let auth = Arc::new(Auth::fresh(id, provider)?);
        let opened = Auth::of(&envelope, recovery, backup)?;
        let root = opened.root(id, &backup_epoch(envelope.epoch))?;
        let mut body = envelope::open(&bytes, Form::Backup, &root)?;
        let held = lock::exclusive(&layout.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
        if !trust.accept_lost && !layout.audit().is_dir() {
            return Err(VaultError::AuditRollback {
                reason: "the audit folder is missing".to_owned(),
            });
        }
        let log = Log::open(&layout.audit(), &format!("aegis/audit/{id}"))?;
        let (seq, hash) = body.audit;
        let heads: Vec<Head> = [Head { seq, hash }]
            .into_iter()
            .chain(trust.expect)
            .collect();
        let (mut newest, mut unproven) = (envelope.generation, 0);
        let lost = walk(&layout, &log, &heads, |record| {
            newest = newest.max(generation(record)?.unwrap_or(0));
            unproven += u64::from(!replay(&mut body, record)?);
            Ok(())
        })?;
        let log_lost = lost.is_some();
        if let Some(reason) = lost.filter(|_| !trust.accept_lost) {
            return Err(VaultError::AuditRollback { reason });
        }
        files::create_dir(&layout.objects())?;
        files::create_dir(&layout.journal())?;
        let epoch = EpochKey::random(reached.max(envelope.epoch) + 1)?;
        let written = log.append(&json!({
            "event": "keystore.restored", "from_epoch": envelope.epoch, "from_generation": envelope.generation,
            "epoch": epoch.epoch, "log_lost": log_lost, "unproven": unproven,
        }))?;
        fail::point("restore.logged")?;
        body.audit = (written.seq + 1, written.hash);
        drop(log);
        epoch.write_first(&layout, id, provider)?;
        files::discard(&layout.epoch_next())?;
        let fresh = auth.envelope(Form::Keystore, id, epoch.epoch, newest + 1);
        let sealed = envelope::seal(&fresh, &auth.root(id, &epoch)?, &body)?;
        files::replace(&layout.keystore(), &sealed)?;
        About::new(id, provider.kind(), epoch.epoch).write(&layout)?;
        drop(held);
        let opening = Opening {
            auth: Some(auth),
            ..Opening::default()
        };
        Ok(opening.open(&layout, provider)?.0)
    }
}

impl Exclusive<'_> {
    /// Goes on from an older keystore of this epoch: the generation leaps over the lost ones.
    pub(crate) fn accept(&mut self, newest: u64) -> Result<()> {
        self.inner.log.append(&json!({
            "event": "keystore.accepted", "lost_generation": newest, "epoch": self.epoch,
        }))?;
        self.commit()
    }
}

/// Turns into tombstones what the record proves was shredded. False when it speaks of destroyed keys without a proof: it is
/// somebody else's.
fn replay(body: &mut Body, record: &Record) -> Result<bool> {
    let event = &record.body["event"];
    if event != SHRED_EVENT && event != REENCRYPTED_EVENT {
        return Ok(true);
    }
    let Some((objects, when)) = shred::proven(&record.body, &body.node)? else {
        return Ok(false);
    };
    for id in objects {
        if body.live(id).is_ok() {
            body.shred(id, when);
        }
    }
    Ok(true)
}
