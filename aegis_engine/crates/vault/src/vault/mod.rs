//! The open vault, and the keystore as this process knows it. What guards it lies beside it; what is done with it, in `ops`.

pub(crate) mod caches;
pub(crate) mod clock;
pub(crate) mod consent;
pub(crate) mod exclusive;
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
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::layout::{About, Layout};
use crate::kdf;
use crate::keys::auth::Auth;
use crate::system::files::{Folder, Stamp};
use crate::system::lock::{self, VaultLock};
use crate::vault::caches::{Datasets, Lineages, People};
use crate::vault::clock::Clock;
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
            .field("path", &self.inner.layout.root)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub layout: Layout,
    pub id: Uuid,
    auth: RwLock<Arc<Auth>>,
    pub log: Log,
    pub consent: ConsentLedger,
    pub lineages: Lineages,
    pub people: People,
    pub datasets: Datasets,
    pub clock: Clock,
    pub lock_wait_ms: AtomicU64,
    /// On a file system that is only for reading; decided when it was opened.
    pub read_only: bool,
    state: RwLock<State>,
    /// Objects of old vaults whose name could not be learned.
    unnamed: Mutex<HashSet<Uuid>>,
    process: u32,
}

impl Vault {
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

    /// Whether its folder is only for reading: listed, verified and checked, nothing else.
    pub fn read_only(&self) -> bool {
        self.inner.read_only
    }

    /// Its folder, opened once: what else lies in it is reached from here.
    pub fn folder(&self) -> &Folder {
        &self.inner.layout.folder
    }

    /// The epoch of the keystore: grows by one at every ratchet.
    pub fn epoch(&self) -> Result<u64> {
        Ok(self.inner.current()?.epoch)
    }

    /// The newest time in the audit log, in ms since 1970, as far as the log was written since the keystore was last, or
    /// read by this process.
    pub fn newest_time(&self) -> Result<u64> {
        let mark = self.inner.current()?.body.audit;
        self.inner.clock.newest(&self.inner.layout.audit(), &mark)
    }

    /// A MAC over `data` that only this vault can make, in a `domain` of its own: what a record needs so that somebody who
    /// can only write files cannot have written it. It survives rotation, restore and re-encryption.
    pub fn proof(&self, domain: &str, data: &[u8]) -> Result<[u8; 32]> {
        proof::of_data(domain, data, &self.inner.known().body.node)
    }

    /// Whether `proof` is the one of `data` in `domain`; in constant time.
    pub fn check_proof(&self, domain: &str, data: &[u8], proof: &[u8]) -> Result<bool> {
        Ok(kdf::same(&self.proof(domain, data)?, proof))
    }

    /// How long to wait for another process before [`VaultError::Locked`]; 10 s at first.
    pub fn set_lock_wait(&self, wait: Duration) {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.inner.lock_wait_ms.store(ms, Ordering::Relaxed);
    }
}

impl Inner {
    /// A vault whose keystore has been opened. The caller holds the lock.
    pub fn new(
        layout: &Layout,
        id: Uuid,
        auth: Arc<Auth>,
        state: State,
        log: Log,
        consent: ConsentLedger,
        read_only: bool,
    ) -> Self {
        Self {
            layout: layout.clone(),
            id,
            auth: RwLock::new(auth),
            log,
            consent,
            lineages: Lineages::default(),
            people: People::default(),
            datasets: Datasets::default(),
            clock: Clock::default(),
            lock_wait_ms: AtomicU64::new(LOCK_WAIT_MS),
            read_only,
            state: RwLock::new(state),
            unnamed: Mutex::default(),
            process: std::process::id(),
        }
    }

    /// Refuses what writes, where nothing can be written.
    pub fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(VaultError::ReadOnly {
                path: self.layout.root.clone(),
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
        let stamp = match Stamp::of(&self.layout.keystore()) {
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
        let held = lock::shared(&self.layout.lock(), self.lock_wait())?;
        self.refresh()?;
        Ok(held)
    }

    /// Makes what is on disk what this process knows. The caller holds the lock.
    pub fn refresh(&self) -> Result<()> {
        let stamp = match Stamp::of(&self.layout.keystore()) {
            Ok(stamp) => stamp,
            Err(gone) => return Err(self.destroyed().unwrap_or(gone)),
        };
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if state.stamp == stamp || state.follow(&self.layout, stamp)? {
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
        let when = About::read(&self.layout).ok()?.destroyed?;
        Some(VaultError::VaultDestroyed {
            path: self.layout.root.clone(),
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
        let loaded = State::load(&self.layout, self.id, &known);
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
