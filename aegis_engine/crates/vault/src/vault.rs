//! A vault: open it, and the keystore as this process knows it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aegis_audit::Log;
use aegis_policy::{ConsentLedger, PolicyError};
use uuid::Uuid;

use crate::envelope;
use crate::epoch;
use crate::error::{Result, VaultError};
use crate::files::{self, Stamp};
use crate::kdf;
use crate::keystore::Body;
use crate::layout::{About, Layout};
use crate::lock;
use crate::provider::{self, Provider};
use crate::secret::Secret;

/// A keystore larger than this is not ours (about 5 million objects).
const KEYSTORE_MAX: u64 = 1 << 30;
/// How long to wait for another process.
pub(crate) const LOCK_WAIT_MS: u64 = 10_000;

/// Encrypted storage in a folder. Cloning is cheap; clones share keys and logs. `Send + Sync`.
#[derive(Clone)]
pub struct Vault {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("id", &self.inner.id)
            .field("path", &self.inner.layout.root)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub layout: Layout,
    pub id: Uuid,
    pub key: Secret<32>,
    pub provider: u16,
    pub log: Log,
    pub consent: ConsentLedger,
    pub lock_wait_ms: AtomicU64,
    state: RwLock<State>,
    process: u32,
}

/// The keystore as last read.
pub(crate) struct State {
    pub stamp: Stamp,
    pub epoch: u64,
    pub body: Body,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// Lower-case hexadecimal, as in audit records.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl State {
    /// Reads and opens the keystore. The caller holds the lock.
    pub fn load(layout: &Layout, vault: Uuid, key: &Secret<32>) -> Result<Self> {
        let path = layout.keystore();
        let stamp = match Stamp::of(&path) {
            Err(VaultError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(VaultError::KeystoreCorrupt {
                    reason: "the file is missing".to_owned(),
                });
            }
            stamp => stamp?,
        };
        let bytes = files::read(&path, KEYSTORE_MAX)?;
        let envelope = envelope::peek(&bytes)?;
        if envelope.vault != vault {
            return Err(VaultError::KeystoreCorrupt {
                reason: "it belongs to another vault".to_owned(),
            });
        }
        if !kdf::same(&provider::key_check(vault, key)?, &envelope.key_check) {
            return Err(VaultError::WrongKey {
                path: layout.root.clone(),
            });
        }
        let reached = About::read(layout)?.epoch;
        if envelope.epoch < reached {
            return Err(VaultError::KeystoreRollback {
                expected: reached,
                found: envelope.epoch,
            });
        }
        let secret = epoch::current(layout, vault, envelope.epoch)?;
        let root = provider::root(vault, key, envelope.epoch, &secret.secret)?;
        let body = envelope::open(&bytes, &root)?;
        Ok(Self {
            stamp,
            epoch: envelope.epoch,
            body,
        })
    }
}

impl Vault {
    /// Opens a vault with its key, finishing what a crash interrupted.
    pub fn open(path: &Path, provider: &Provider) -> Result<Self> {
        let layout = Layout::new(path);
        let about = About::read(&layout)?;
        let key = provider.key()?;
        let held = lock::exclusive(&layout.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
        let state = State::load(&layout, about.id, &key)?;
        epoch::settle(&layout, about.id, state.epoch)?;
        drop(held);
        if !layout.audit().is_dir() && state.body.audit.0 > 0 {
            return Err(VaultError::AuditRollback {
                reason: "the audit folder is missing".to_owned(),
            });
        }
        let log = Log::open(&layout.audit(), &format!("aegis/audit/{}", about.id))?;
        check_log(&layout, &log, state.body.audit)?;
        let consent =
            ConsentLedger::open(&layout.consent(), &format!("aegis/consent/{}", about.id))
                .map_err(PolicyError::from)?;
        let inner = Inner {
            layout,
            id: about.id,
            key,
            provider: provider.id(),
            log,
            consent,
            lock_wait_ms: AtomicU64::new(LOCK_WAIT_MS),
            state: RwLock::new(state),
            process: std::process::id(),
        };
        let vault = Self {
            inner: Arc::new(inner),
        };
        // Rolls intents forward.
        vault.inner.exclusive()?.done()?;
        Ok(vault)
    }

    /// Its random id.
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.inner.layout.root
    }

    /// The log every decision is written to before it has an effect.
    pub fn audit(&self) -> &Log {
        &self.inner.log
    }

    /// Consent of the data subjects.
    pub fn consent(&self) -> &ConsentLedger {
        &self.inner.consent
    }

    /// The epoch of the keystore: grows by one at every ratchet.
    pub fn epoch(&self) -> Result<u64> {
        Ok(self.inner.current()?.epoch)
    }

    /// How long to wait for another process before [`VaultError::Locked`]; 10 s at first.
    pub fn set_lock_wait(&self, wait: Duration) {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.inner.lock_wait_ms.store(ms, Ordering::Relaxed);
    }
}

impl Inner {
    pub fn lock_wait(&self) -> Duration {
        Duration::from_millis(self.lock_wait_ms.load(Ordering::Relaxed))
    }

    /// Keys must not be used by a forked child: it would share nonces and locks with its parent.
    pub fn same_process(&self) -> Result<()> {
        if std::process::id() == self.process {
            Ok(())
        } else {
            Err(VaultError::ForkedProcess)
        }
    }

    /// The keystore as it is on disk now: reloaded when the file changed.
    pub fn current(&self) -> Result<RwLockReadGuard<'_, State>> {
        self.same_process()?;
        let stamp = Stamp::of(&self.layout.keystore())?;
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.stamp == stamp {
                return Ok(state);
            }
        }
        // Under the lock no ratchet is half done.
        let held = lock::shared(&self.layout.lock(), self.lock_wait())?;
        let fresh = State::load(&self.layout, self.id, &self.key)?;
        drop(held);
        self.put(fresh)?;
        Ok(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `fresh` what this process knows.
    pub fn put(&self, fresh: State) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if fresh.epoch < state.epoch {
            return Err(VaultError::KeystoreRollback {
                expected: state.epoch,
                found: fresh.epoch,
            });
        }
        *state = fresh;
        Ok(())
    }

    /// Without a look at the disk, for what never changes in a vault.
    pub fn known(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log must contain the record that the (authenticated) keystore remembers.
fn check_log(layout: &Layout, log: &Log, (seq, hash): (u64, [u8; 32])) -> Result<()> {
    let rollback = |reason: String| Err(VaultError::AuditRollback { reason });
    if seq == 0 {
        return Ok(());
    }
    let head = log.head();
    if head.seq < seq {
        return rollback(format!("{} records are left, {seq} were there", head.seq));
    }
    let at = usize::try_from(seq - 1).unwrap_or(usize::MAX);
    match aegis_audit::read(&layout.audit())?.nth(at).transpose()? {
        Some(record) if record.hash == hash => Ok(()),
        _ => rollback(format!("record {} is another one", seq - 1)),
    }
}
