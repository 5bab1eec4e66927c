//! Backups of the keystore, made on purpose, under a recovery key of their own: the only protection against its loss,
//! and copies that shredding does not reach. So each is on record, in the keystore and in every later receipt.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_audit::{Event, Head, Log, Record};
use serde_json::json;

use crate::error::{Result, VaultError};
use crate::format::envelope::{self, BASE_MAX, Form};
use crate::format::keystore::{Body, Delta, Entry, KnownCopy};
use crate::format::layout::{About, Layout};
use crate::format::name;
use crate::keys::auth::Auth;
use crate::keys::epoch::EpochKey;
use crate::keys::provider::{Kind, Provider};
use crate::ops::open::Opening;
use crate::ops::shred;
use crate::secret::Secret;
use crate::system::failpoint;
use crate::system::files;
use crate::system::lock;
use crate::system::outside;
use crate::vault::Exclusive;
use crate::vault::proof::{self, Said};
use crate::vault::trail::{self, Newest, verify_chain};
use crate::vault::{LOCK_WAIT_MS, Vault, now};

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
        let bytes = outside::read(backup, BASE_MAX)?;
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
        let body = envelope::open(&bytes, Form::Backup, &root)?.body;
        let held = lock::exclusive(&layout.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
        if !trust.accept_lost && !layout.audit().is_dir() {
            return Err(trail::missing());
        }
        let log = Log::open(&layout.audit(), &trail::origin(id))?;
        let heads: Vec<Head> = [body.audit.head].into_iter().chain(trust.expect).collect();
        let mut newest = Newest::new(envelope.generation, envelope.version == 1);
        let mut since = Since::new(&body);
        let lost = verify_chain(&layout, &log, &heads, |record| {
            newest.hear(record, &body.node)?;
            since.hear(record, &body)
        })?;
        let log_lost = lost.is_some();
        let unproven = since.unproven;
        if since.governed_unproven && body.bundle.is_none() && !trust.accept_lost {
            let reason = "it says without a proof that the vault was governed since the backup; give accept_lost_log \
                          to restore it as the backup and the proven records say";
            return Err(VaultError::AuditRollback {
                reason: reason.to_owned(),
            });
        }
        if let Some(reason) = lost.filter(|_| !trust.accept_lost) {
            return Err(VaultError::AuditRollback { reason });
        }
        files::create_dir(&layout.objects())?;
        files::create_dir(&layout.journal())?;
        let epoch = EpochKey::random(reached.max(envelope.epoch) + 1)?;
        let written = log.record(
            Event::KeystoreRestored,
            json!({
                "from_epoch": envelope.epoch, "from_generation": envelope.generation,
                "epoch": epoch.epoch, "log_lost": log_lost, "unproven": unproven,
            }),
        )?;
        failpoint::point("restore.logged")?;
        debug_assert_eq!(log.mark().head, written.head());
        let audit = log.mark();
        drop(log);
        epoch.write_first(&layout, id, provider)?;
        files::discard(&layout.epoch_next())?;
        let fresh = auth.envelope(Form::Keystore, id, epoch.epoch, newest.generation + 1);
        let root = auth.root(id, &epoch)?;
        let base = envelope::seal(&fresh, &root, &body, &since.delta, &audit)?;
        files::replace(&layout.keystore(), &base.bytes)?;
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
        let facts = json!({"lost_generation": newest, "epoch": self.epoch});
        self.inner.log.record(Event::KeystoreAccepted, facts)?;
        // More than the file has: so a new base is written, not a change.
        self.generation = newest;
        self.commit()
    }
}

/// What the log proves was done since a backup.
struct Since {
    delta: Delta,
    /// Records up to here were written before the backup.
    known: u64,
    /// Records of destroyed keys or of a bundle without a proof: somebody else's, or of an older version.
    unproven: u64,
    governed_unproven: bool,
}

impl Since {
    fn new(body: &Body) -> Self {
        Self {
            delta: Delta::default(),
            known: body.audit.head.seq,
            unproven: 0,
            governed_unproven: false,
        }
    }

    /// Tombstones for what the record proves was shredded, the bundle that it proves governs the vault.
    fn hear(&mut self, record: &Record, body: &Body) -> Result<()> {
        let event = &record.body["event"];
        if event == Event::Shred.name() || event == Event::ReencryptDone.name() {
            let Some((objects, when)) = shred::proven(&record.body, &body.node)? else {
                self.unproven += 1;
                return Ok(());
            };
            for id in objects.into_iter().filter(|id| body.live(*id).is_ok()) {
                self.delta.entries.insert(id, Entry::Shredded { when });
            }
        }
        match proof::bundle(&record.body, &body.node)? {
            Said::Proven(Some(bundle)) => self.delta.bundle = Some(bundle),
            // What the backup's own body says already.
            Said::Unproven(_) if record.seq >= self.known => {
                self.unproven += 1;
                self.governed_unproven = true;
            }
            _ => {}
        }
        Ok(())
    }
}
