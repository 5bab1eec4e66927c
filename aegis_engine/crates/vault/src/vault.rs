//! A vault: open it, and the keystore as this process knows it.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
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
use crate::files::{self, Folder, Stamp};
use crate::layout::{About, Layout};
use crate::lineage::Lineages;
use crate::lock::{self, VaultLock};
use crate::outside;
use crate::people::People;
use crate::provider::Provider;
use crate::recover;
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
    /// On a file system that is only for reading; decided when it was opened.
    pub read_only: bool,
    state: RwLock<State>,
    /// Objects of old vaults whose name could not be learned.
    unnamed: Mutex<HashSet<Uuid>>,
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
        let opening = Opening {
            accept_older,
            ..Opening::default()
        };
        let (vault, held) = opening.open(&Layout::open(path)?, provider)?;
        drop(held);
        if !vault.inner.read_only {
            vault.settle_consent()?;
        }
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

    /// How long to wait for another process before [`VaultError::Locked`]; 10 s at first.
    pub fn set_lock_wait(&self, wait: Duration) {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.inner.lock_wait_ms.store(ms, Ordering::Relaxed);
    }
}

/// How to open a vault. A key that was just asked for is not asked for again.
#[derive(Default)]
pub(crate) struct Opening {
    pub accept_older: bool,
    /// What opens the keystore, where that is known.
    pub auth: Option<Arc<Auth>>,
    /// Writes `vault.json` anew where it is lost or damaged: by the readable part of the keystore, once that was opened.
    pub rebuild: bool,
}

impl Opening {
    /// Opens the vault and finishes what a crash interrupted. Nothing in the folder is changed before the lock is held and
    /// the keystore has been opened with the key; keystore, audit log and consent are compared under that one lock, which
    /// is given back still held: shared on a file system that is only for reading, else exclusive.
    pub fn open(self, layout: &Layout, provider: &Provider) -> Result<(Vault, VaultLock)> {
        let about = match self.about(layout)? {
            Ok(about) => about,
            Err(destroyed) => return Err(destroy::forward(layout, &destroyed, provider)?),
        };
        let ask = |vault| {
            let envelope = state::readable(layout, vault)?;
            Ok(Arc::new(Auth::of(&envelope, provider, &layout.root)?))
        };
        // Asked before the lock is taken: a person or a token takes its time, and a wrong key changes nothing at all.
        let auth = match self.auth {
            Some(ref auth) => Some(Arc::clone(auth)),
            None => match ask(about.id) {
                Ok(auth) => Some(auth),
                Err(error) => match self.about(layout)? {
                    // It is being destroyed just now.
                    Err(_) => None,
                    Ok(_) => return Err(error),
                },
            },
        };
        let read_only = lock::read_only(&layout.lock())?;
        let wait = Duration::from_millis(LOCK_WAIT_MS);
        let mut held = if read_only {
            lock::shared(&layout.lock(), wait)?
        } else {
            lock::exclusive(&layout.lock(), wait)?
        };
        let about = match self.about(layout)? {
            Ok(about) => about,
            Err(destroyed) => {
                drop(held);
                return Err(destroy::forward(layout, &destroyed, provider)?);
            }
        };
        let id = about.id;
        let auth = auth.map_or_else(|| ask(id), Ok)?;
        let (state, auth) = State::load_reaching(layout, id, &auth, about.epoch)?;
        // From here on the folder is this vault's, by the word of who has its key.
        if read_only && (self.accept_older || self.rebuild) {
            return Err(VaultError::ReadOnly {
                path: layout.root.clone(),
            });
        }
        held.sign();
        if self.rebuild {
            about.write(layout)?;
        }
        if !read_only {
            epoch::settle(layout, id, state.epoch, provider)?;
        }
        let (log, newest) = trail::open(layout, id, &state, read_only)?;
        let older = newest > state.generation;
        if older && !self.accept_older {
            return Err(state.stale(newest));
        }
        let consent = consent(layout, id, &state, read_only)?;
        let follows = about.epoch == state.epoch && about.provider == provider.kind().name();
        let inner = Inner {
            layout: layout.clone(),
            id,
            auth: RwLock::new(auth),
            log,
            consent,
            lineages: Lineages::default(),
            people: People::default(),
            clock: Clock::default(),
            lock_wait_ms: AtomicU64::new(LOCK_WAIT_MS),
            read_only,
            state: RwLock::new(state),
            unnamed: Mutex::default(),
            process: std::process::id(),
        };
        let vault = Vault {
            inner: Arc::new(inner),
        };
        let behind = vault.inner.known().is_far_behind(&vault.inner.log.mark());
        if !read_only && (older || behind || !follows || recover::needed(layout)?) {
            let mut exclusive = vault.inner.exclusive_holding(held)?;
            if older {
                exclusive.accept(newest)?;
            }
            recover::roll(&mut exclusive)?;
            if behind {
                exclusive.commit()?;
            }
            held = exclusive.finish()?;
        }
        Ok((vault, held))
    }

    /// `vault.json`, or what it says when the vault was destroyed.
    fn about(&self, layout: &Layout) -> Result<Result<About, About>> {
        let about = match About::read(layout) {
            Err(VaultError::AboutDamaged { .. } | VaultError::NotAVault { .. })
                if self.rebuild && files::exists(&layout.keystore())? =>
            {
                let envelope = state::peek(layout)?;
                About::new(envelope.vault, envelope.provider, envelope.epoch)
            }
            read => read?,
        };
        Ok(if about.destroyed.is_some() {
            Err(about)
        } else {
            Ok(about)
        })
    }
}

/// The ledger, which must contain what the keystore committed last. The caller holds the lock.
fn consent(layout: &Layout, id: Uuid, state: &State, read_only: bool) -> Result<ConsentLedger> {
    let origin = format!("aegis/consent/{id}");
    let prove = consents::prove(&state.body.node)?;
    let consent = if read_only {
        ConsentLedger::open_read_only(&layout.consent(), &origin, prove)
    } else {
        ConsentLedger::open(&layout.consent(), &origin, prove)
    };
    let consent = consent.map_err(PolicyError::from)?;
    if let Some(head) = state.body.heads.get(consents::HEAD) {
        consent.expect(aegis_audit::Head {
            seq: head.count,
            hash: head.mac,
        });
        consent.refresh().map_err(PolicyError::from)?;
    }
    Ok(consent)
}

impl Inner {
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
