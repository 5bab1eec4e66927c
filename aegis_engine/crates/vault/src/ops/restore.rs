//! Putting a backup of the keystore back, and with it what the audit log proves was done since.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_audit::{Event, Head, Log, Record};
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::envelope::{self, BASE_MAX, Envelope, Form};
use crate::format::keystore::{Body, Delta, Entry};
use crate::format::paths::{About, Paths};
use crate::keys::auth::Auth;
use crate::keys::epoch::EpochKey;
use crate::keys::provider::Provider;
use crate::ops::backup::{backup_epoch, no_wrapping};
use crate::ops::open::Opening;
use crate::ops::shred;
use crate::system::failpoint;
use crate::system::files;
use crate::system::lock;
use crate::system::outside;
use crate::vault::proof::{self, Said};
use crate::vault::trail::{self, Newest, verify_chain};
use crate::vault::{LOCK_WAIT_MS, Vault};

/// What a restore demands of the audit log, from which it learns what was shredded since the backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogTrust {
    /// A head kept elsewhere, which the log must contain. The backup remembers one of its own; what came after that, only
    /// whoever kept a later one knows.
    pub expect: Option<Head>,
    /// Goes on without the records that are lost; what was shredded by them is back, where its file is.
    pub accept_lost: bool,
}

impl Vault {
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
        let paths = Paths::open(path)?;
        let bytes = outside::read(backup, BASE_MAX)?;
        let envelope = envelope::peek(&bytes, Form::Backup)?;
        let reached = epoch_reached(&paths, path, envelope.vault)?;
        // Asked once, and before anything is changed.
        let auth = Arc::new(Auth::fresh(envelope.vault, provider)?);
        let opened = Auth::of(&envelope, recovery, backup)?;
        let root = opened.root(envelope.vault, &backup_epoch(envelope.epoch))?;
        let body = envelope::open(&bytes, Form::Backup, &root)?.body;
        let held = lock::exclusive(&paths.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
        let checked = check_against_log(&paths, &envelope, &body, trust)?;
        install(&paths, &auth, reached, (&envelope, &body), checked)?;
        drop(held);
        let opening = Opening {
            auth: Some(auth),
            ..Opening::default()
        };
        Ok(opening.open(&paths, provider)?.0)
    }
}

/// The epoch that the vault in the folder had reached, as far as is known.
fn epoch_reached(paths: &Paths, path: &Path, id: Uuid) -> Result<u64> {
    Ok(match About::read(paths) {
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
    })
}

/// What the log adds to a backup.
struct Checked {
    log: Log,
    since: Since,
    /// The newest generation on record.
    newest: u64,
    log_lost: bool,
}

/// The log must go on from where it was at the backup; the caller holds the lock.
fn check_against_log(
    paths: &Paths,
    envelope: &Envelope,
    body: &Body,
    trust: LogTrust,
) -> Result<Checked> {
    if !trust.accept_lost && !paths.audit().is_dir() {
        return Err(trail::missing());
    }
    let log = Log::open(&paths.audit(), &trail::origin(envelope.vault))?;
    let heads: Vec<Head> = [body.audit.head].into_iter().chain(trust.expect).collect();
    let mut newest = Newest::new(envelope.generation, envelope.version == 1);
    let mut since = Since::new(body);
    let lost = verify_chain(paths, &log, &heads, |record| {
        newest.hear(record, &body.node)?;
        since.hear(record, body)
    })?;
    let log_lost = lost.is_some();
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
    Ok(Checked {
        log,
        since,
        newest: newest.generation,
        log_lost,
    })
}

/// Writes the keystore anew under a fresh epoch, after its record in the log.
fn install(
    paths: &Paths,
    auth: &Auth,
    reached: u64,
    (envelope, body): (&Envelope, &Body),
    checked: Checked,
) -> Result<()> {
    let Checked {
        log,
        since,
        newest,
        log_lost,
    } = checked;
    let id = envelope.vault;
    files::create_dir(&paths.objects())?;
    files::create_dir(&paths.journal())?;
    let epoch = EpochKey::random(reached.max(envelope.epoch) + 1)?;
    let written = log.record(
        Event::KeystoreRestored,
        json!({
            "from_epoch": envelope.epoch, "from_generation": envelope.generation,
            "epoch": epoch.epoch, "log_lost": log_lost, "unproven": since.unproven,
        }),
    )?;
    failpoint::point("restore.logged")?;
    debug_assert_eq!(log.mark().head, written.head());
    let audit = log.mark();
    drop(log);
    epoch.write_first(paths, id, &auth.provider)?;
    files::discard(&paths.epoch_next())?;
    let fresh = auth.envelope(Form::Keystore, id, epoch.epoch, newest + 1);
    let root = auth.root(id, &epoch)?;
    let base = envelope::seal(&fresh, &root, body, &since.delta, &audit)?;
    files::replace(&paths.keystore(), &base.bytes)?;
    About::new(id, auth.provider.kind(), epoch.epoch).write(paths)
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
