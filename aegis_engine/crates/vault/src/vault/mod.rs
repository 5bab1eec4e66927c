//! The open handle, and what guards it, goes here: the lock, the keystore as this process knows it, the journal, the proofs.

pub(crate) mod blob;
pub(crate) mod consents;
pub(crate) mod exclusive;
pub(crate) mod journal;
pub(crate) mod memo;
pub(crate) mod proof;
pub(crate) mod state;
pub(crate) mod trail;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use aegis_audit::Log;
use aegis_policy::ConsentLedger;
use data_encoding::HEXLOWER;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::Delta;
use crate::format::paths::{About, Paths};
use crate::keys::auth::Auth;
use crate::system::clock;
use crate::system::files::{Folder, Place, Stamp};
use crate::system::lock::{self, VaultLock};
use crate::vault::memo::Memo;
use crate::vault::state::State;

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
            .field("path", &self.inner.paths.root)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub paths: Paths,
    pub id: Uuid,
    auth: RwLock<Arc<Auth>>,
    pub log: Log,
    pub consent: ConsentLedger,
    /// Of `dataset/lineage.rs`.
    pub lineages: Memo,
    /// Of `dataset/people.rs`.
    pub people: Memo,
    /// `dataset`: governance metadata that was decrypted.
    pub datasets: Memo,
    /// Of `ops/newest_time.rs`.
    pub times: Memo,
    /// What a crash may leave, and how each is finished.
    intents: &'static [Intent],
    pub lock_wait_ms: AtomicU64,
    /// On a file system that is only for reading; decided when it was opened.
    pub read_only: bool,
    state: RwLock<State>,
    /// Objects of old vaults whose name could not be learned.
    unnamed: Mutex<HashSet<Uuid>>,
    process: u32,
}

/// What was opened and checked, for [`Vault::assemble`].
pub(crate) struct Parts {
    pub paths: Paths,
    pub id: Uuid,
    pub auth: Arc<Auth>,
    pub log: Log,
    pub consent: ConsentLedger,
    pub state: State,
    pub read_only: bool,
    pub intents: &'static [Intent],
}

/// The vault held exclusively: the lock, the keystore as it is on disk, and what the next commit changes of it.
pub(crate) struct Exclusive<'a> {
    pub inner: &'a Inner,
    /// Not seen by readers before it is durable.
    pub delta: Delta,
    pub epoch: u64,
    pub generation: u64,
    lock: VaultLock,
}

/// A kind of file in the journal, and how what it stands for is finished when its process is gone. The operations write
/// their intents; the vault finishes them and does not know whose they are.
pub(crate) struct Intent {
    /// What its file's name ends in, after an id and a dot.
    pub extension: &'static str,
    /// Finishes the intent of that id in that place, or undoes it; a second time changes nothing.
    pub finish: fn(&mut Exclusive<'_>, Uuid, &Place) -> Result<()>,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    clock::seconds()
}

/// Lower-case hexadecimal, as in audit records.
pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

impl Vault {
    /// The handle of what was opened.
    pub(crate) fn assemble(parts: Parts) -> Self {
        let Parts {
            paths,
            id,
            auth,
            log,
            consent,
            state,
            read_only,
            intents,
        } = parts;
        let inner = Inner {
            paths,
            id,
            auth: RwLock::new(auth),
            log,
            consent,
            lineages: Memo::default(),
            people: Memo::default(),
            datasets: Memo::default(),
            times: Memo::default(),
            intents,
            lock_wait_ms: AtomicU64::new(LOCK_WAIT_MS),
            read_only,
            state: RwLock::new(state),
            unnamed: Mutex::default(),
            process: std::process::id(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Its random id.
    pub fn id(&self) -> Uuid {
        self.inner.id
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.inner.paths.root
    }

    /// The log every decision is written to before it has an effect.
    pub fn audit(&self) -> &Log {
        &self.inner.log
    }

    /// Whether its folder is only for reading: listed, verified and checked, nothing else.
    pub fn read_only(&self) -> bool {
        self.inner.read_only
    }

    /// Its folder, opened once: what else lies in it is reached from here.
    pub fn folder(&self) -> &Folder {
        &self.inner.paths.folder
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
    /// Refuses what writes, where nothing can be written.
    pub fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(VaultError::ReadOnly {
                path: self.paths.root.clone(),
            });
        }
        Ok(())
    }

    pub fn unnamed(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    /// The keystore as it is on disk now: what changed since is read.
    pub fn current(&self) -> Result<RwLockReadGuard<'_, State>> {
        self.same_process()?;
        let stamp = match Stamp::of(&self.paths.keystore()) {
            Ok(stamp) => stamp,
            Err(gone) => return Err(self.destroyed().unwrap_or(gone)),
        };
        {
            let state = self.known();
            if state.stamp == stamp {
                return Ok(state);
            }
        }
        // Under the lock no ratchet is half done.
        drop(self.reload()?);
        Ok(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keystore under the shared lock, which is given back still held: between reading and remembering, another
    /// thread must not have written a newer one.
    fn reload(&self) -> Result<VaultLock> {
        let held = lock::shared(&self.paths.lock(), self.lock_wait())?;
        self.refresh()?;
        Ok(held)
    }

    /// Makes what is on disk what this process knows. The caller holds the lock.
    pub fn refresh(&self) -> Result<()> {
        let stamp = match Stamp::of(&self.paths.keystore()) {
            Ok(stamp) => stamp,
            Err(gone) => return Err(self.destroyed().unwrap_or(gone)),
        };
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if state.stamp == stamp || state.follow(&self.paths, stamp)? {
                return Ok(());
            }
        }
        let fresh = self.load()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if fresh.epoch == state.epoch && fresh.generation < state.generation {
            return Err(VaultError::KeystoreStale {
                expected: state.generation,
                found: fresh.generation,
            });
        }
        if fresh.epoch < state.epoch {
            return Err(VaultError::KeystoreRollback {
                expected: state.epoch,
                found: fresh.epoch,
            });
        }
        *state = fresh;
        Ok(())
    }

    /// Runs `look` over the keystore and the files it names. A file that is missing is missing only when the keystore,
    /// read anew under the lock, still names it: another process may just have shredded or re-encrypted the object.
    pub fn looking<T>(&self, look: impl Fn(&State) -> Result<T>) -> Result<T> {
        let first = {
            let state = self.current()?;
            look(&state)
        };
        match first {
            Err(VaultError::ObjectMissing { .. }) => {
                let held = self.reload()?;
                let second = look(&self.known());
                drop(held);
                second
            }
            other => other,
        }
    }

    /// Why the keystore is gone, when that was on purpose.
    fn destroyed(&self) -> Option<VaultError> {
        let when = About::read(&self.paths).ok()?.destroyed?;
        Some(VaultError::VaultDestroyed {
            path: self.paths.root.clone(),
            when,
        })
    }

    /// What became of files outside the lock, where a destroyed vault is not an error of the disk.
    pub fn unless_destroyed<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            VaultError::Io { .. } | VaultError::ObjectMissing { .. } => {
                self.destroyed().unwrap_or(error)
            }
            other => other,
        })
    }

    /// The keystore on disk. The caller holds the lock.
    pub fn load(&self) -> Result<State> {
        let known = self.auth();
        let loaded = State::load(&self.paths, self.id, &known);
        let (state, auth) = loaded.map_err(|error| self.destroyed().unwrap_or(error))?;
        if !Arc::ptr_eq(&known, &auth) {
            self.set_auth(auth);
        }
        Ok(state)
    }

    /// What opens the keystore.
    pub fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_auth(&self, auth: Arc<Auth>) {
        *self.auth.write().unwrap_or_else(PoisonError::into_inner) = auth;
    }

    /// Changes what this process knows, once it is durable.
    pub fn settle(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Without a look at the disk, for what never changes in a vault.
    pub fn known(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
