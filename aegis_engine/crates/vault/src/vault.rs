//! A vault: open it, and the keystore as this process knows it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use aegis_audit::Log;
use aegis_policy::{ConsentLedger, PolicyError};
use uuid::Uuid;

use crate::auth::Auth;
use crate::clock::Clock;
use crate::consents;
use crate::destroy;
use crate::epoch;
use crate::error::{Result, VaultError};
use crate::files::Stamp;
use crate::layout::{About, Layout};
use crate::lineage::Lineages;
use crate::people::People;
use crate::lock;
use crate::outside;
use crate::provider::Provider;
use crate::state::{self, State};
use crate::trail;

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
    pub clock: Clock,
    pub lock_wait_ms: AtomicU64,
    state: RwLock<State>,
    process: u32,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    outside::seconds()
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

impl Vault {
    /// Opens a vault with its key, finishing what a crash interrupted.
    pub fn open(path: &Path, provider: &Provider) -> Result<Self> {
        Self::open_with(path, provider, false)
    }

    /// As [`open`](Self::open), but takes a keystore that is older than the audit log says, such as one copy from a
    /// backup of the folder. What was stored since is lost; what was shredded since stays shredded.
    pub fn open_accepting_older(path: &Path, provider: &Provider) -> Result<Self> {
        Self::open_with(path, provider, true)
    }

    fn open_with(path: &Path, provider: &Provider, accept_older: bool) -> Result<Self> {
        let layout = Layout::new(path);
        let about = About::read(&layout)?;
        if about.destroyed.is_some() {
            return Err(destroy::forward(&layout, &about, provider)?);
        }
        let held = lock::exclusive(&layout.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
        let (_, envelope) = state::keystore(&layout, about.id)?;
        let auth = Arc::new(Auth::of(&envelope, provider, path)?);
        let (state, auth) = State::load(&layout, about.id, &auth)?;
        epoch::settle(&layout, about.id, state.epoch, provider)?;
        drop(held);
        let (log, newest) = trail::open(&layout, about.id, &state)?;
        let older = newest > state.generation;
        if older && !accept_older {
            return Err(state.stale(newest));
        }
        let consent = ConsentLedger::open(
            &layout.consent(),
            &format!("aegis/consent/{}", about.id),
            consents::prove(&state.body.node)?,
        )
        .map_err(PolicyError::from)?;
        let inner = Inner {
            layout,
            id: about.id,
            auth: RwLock::new(auth),
            log,
            consent,
            lineages: Lineages::default(),
            people: People::default(),
            clock: Clock::default(),
            lock_wait_ms: AtomicU64::new(LOCK_WAIT_MS),
            state: RwLock::new(state),
            process: std::process::id(),
        };
        let vault = Self {
            inner: Arc::new(inner),
        };
        if older {
            vault.accept(newest)?;
        }
        // Rolls intents forward.
        vault.inner.exclusive()?.done()?;
        vault.settle_consent()?;
        vault.adopt_lineages()?;
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
        let held = lock::shared(&self.layout.lock(), self.lock_wait())?;
        self.refresh()?;
        drop(held);
        Ok(self.known())
    }

    /// Makes what is on disk what this process knows. The caller holds the lock.
    pub fn refresh(&self) -> Result<()> {
        let stamp = Stamp::of(&self.layout.keystore())?;
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

    /// Why the keystore is gone, when that was on purpose.
    fn destroyed(&self) -> Option<VaultError> {
        let when = About::read(&self.layout).ok()?.destroyed?;
        Some(VaultError::VaultDestroyed {
            path: self.layout.root.clone(),
            when,
        })
    }

    /// The keystore on disk. The caller holds the lock.
    pub fn load(&self) -> Result<State> {
        let known = self.auth();
        let (state, auth) = State::load(&self.layout, self.id, &known)?;
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
