//! A vault: open it, and the keystore as this process knows it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use aegis_audit::{Head, Log, Record};
use aegis_policy::{ConsentLedger, PolicyError};
use uuid::Uuid;

use crate::auth::Auth;
use crate::destroy;
use crate::envelope::{self, Envelope, Form};
use crate::epoch;
use crate::error::{Result, VaultError};
use crate::files::{self, Folder, Stamp};
use crate::keystore::Body;
use crate::layout::{About, Layout};
use crate::lock::{self, VaultLock};
use crate::outside;
use crate::provider::Provider;
use crate::recover;

/// A keystore larger than this is not ours (about 5 million objects).
pub(crate) const KEYSTORE_MAX: u64 = 1 << 30;
/// The audit record of a keystore that has become durable.
pub(crate) const KEYSTORE_EVENT: &str = "keystore";
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
    pub lock_wait_ms: AtomicU64,
    /// On a file system that is only for reading; decided when it was opened.
    pub read_only: bool,
    state: RwLock<State>,
    process: u32,
}

/// The keystore as last read.
pub(crate) struct State {
    pub stamp: Stamp,
    pub epoch: u64,
    pub generation: u64,
    pub body: Body,
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

/// The keystore file, with what can be read of it without a key.
pub(crate) fn keystore(layout: &Layout, vault: Uuid) -> Result<(Vec<u8>, Envelope)> {
    let path = layout.keystore();
    if !files::exists(&path)? {
        return Err(VaultError::KeystoreCorrupt {
            reason: "the file is missing".to_owned(),
        });
    }
    let bytes = files::read(&path, KEYSTORE_MAX)?;
    let envelope = envelope::peek(&bytes, Form::Keystore)?;
    if envelope.vault != vault {
        return Err(VaultError::KeystoreCorrupt {
            reason: "it belongs to another vault".to_owned(),
        });
    }
    Ok((bytes, envelope))
}

impl State {
    /// Reads and opens the keystore; gives a new `Auth` when a rotation made the known one obsolete and the same
    /// provider has the new key. The caller holds the lock.
    pub fn load(layout: &Layout, vault: Uuid, known: &Arc<Auth>) -> Result<(Self, Arc<Auth>)> {
        let reached = About::read(layout)?.epoch;
        Self::load_reaching(layout, vault, known, reached)
    }

    /// As [`load`](Self::load), where `vault.json` does not say which epoch was reached.
    fn load_reaching(
        layout: &Layout,
        vault: Uuid,
        known: &Arc<Auth>,
        reached: u64,
    ) -> Result<(Self, Arc<Auth>)> {
        let (bytes, envelope) = keystore(layout, vault)?;
        let stamp = Stamp::of(&layout.keystore())?;
        let auth = if known.fits(&envelope) {
            Arc::clone(known)
        } else {
            Arc::new(Auth::of(&envelope, &known.provider, &layout.root)?)
        };
        if envelope.epoch < reached {
            return Err(VaultError::KeystoreRollback {
                expected: reached,
                found: envelope.epoch,
            });
        }
        let secret = auth.epoch_key(layout, vault, envelope.epoch)?;
        let body = envelope::open(&bytes, Form::Keystore, &auth.root(vault, &secret)?)?;
        let state = Self {
            stamp,
            epoch: envelope.epoch,
            generation: envelope.generation,
            body,
        };
        Ok((state, auth))
    }
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
            let (_, envelope) = keystore(layout, vault)?;
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
        let (mut state, auth) = State::load_reaching(layout, id, &auth, about.epoch)?;
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
        let (log, consent) = logs(layout, id, read_only, state.body.audit.0 > 0)?;
        let newest = check_log(layout, &log, state.body.audit)?;
        let older = newest > state.generation;
        if older && !self.accept_older {
            return Err(VaultError::KeystoreStale {
                expected: newest,
                found: state.generation,
            });
        }
        state.generation = state.generation.max(newest);
        let follows = about.epoch == state.epoch && about.provider == provider.kind().name();
        let inner = Inner {
            layout: layout.clone(),
            id,
            auth: RwLock::new(auth),
            log,
            consent,
            lock_wait_ms: AtomicU64::new(LOCK_WAIT_MS),
            read_only,
            state: RwLock::new(state),
            process: std::process::id(),
        };
        let vault = Vault {
            inner: Arc::new(inner),
        };
        if !read_only && (older || !follows || recover::needed(layout)?) {
            let mut exclusive = vault.inner.exclusive_holding(held)?;
            if older {
                exclusive.accept(newest)?;
            }
            recover::roll(&mut exclusive)?;
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
                let bytes = files::read(&layout.keystore(), KEYSTORE_MAX)?;
                let envelope = envelope::peek(&bytes, Form::Keystore)?;
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

/// Both logs. One that the keystore remembers is not made anew where it is lost.
fn logs(
    layout: &Layout,
    id: Uuid,
    read_only: bool,
    remembered: bool,
) -> Result<(Log, ConsentLedger)> {
    if remembered && !layout.audit().is_dir() {
        return Err(VaultError::AuditRollback {
            reason: "the audit folder is missing".to_owned(),
        });
    }
    let audit = format!("aegis/audit/{id}");
    let origin = format!("aegis/consent/{id}");
    let (log, consent) = if read_only {
        let consent = ConsentLedger::open_read_only(&layout.consent(), &origin);
        (Log::open_read_only(&layout.audit(), &audit)?, consent)
    } else {
        let log = Log::open(&layout.audit(), &audit)?;
        (log, ConsentLedger::open(&layout.consent(), &origin))
    };
    Ok((log, consent.map_err(PolicyError::from)?))
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
        let stamp = match Stamp::of(&self.layout.keystore()) {
            Ok(stamp) => stamp,
            Err(gone) => return Err(self.destroyed().unwrap_or(gone)),
        };
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
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
        let fresh = self.load()?;
        self.put(fresh)?;
        Ok(held)
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

    /// Makes `fresh` what this process knows.
    pub fn put(&self, fresh: State) -> Result<()> {
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

    /// Without a look at the disk, for what never changes in a vault.
    pub fn known(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log must contain the record that the (authenticated) keystore remembers. Gives the newest generation of the
/// keystore that the log knows of: each is on record once it is durable.
fn check_log(layout: &Layout, log: &Log, (seq, hash): (u64, [u8; 32])) -> Result<u64> {
    let mut newest = 0;
    let lost = walk(layout, log, &[Head { seq, hash }], |record| {
        if record.seq >= seq {
            newest = newest.max(generation(record)?.unwrap_or(0));
        }
        Ok(())
    })?;
    lost.map_or(Ok(newest), |reason| {
        Err(VaultError::AuditRollback { reason })
    })
}

/// Gives every record to `each`, in one pass. Some reason when the log is none of `heads` and does not go on from it.
pub(crate) fn walk(
    layout: &Layout,
    log: &Log,
    heads: &[Head],
    mut each: impl FnMut(&Record) -> Result<()>,
) -> Result<Option<String>> {
    let left = log.head().seq;
    let short = heads.iter().find(|head| head.seq > left);
    let mut lost = short.map(|head| format!("{left} records are left, {} were there", head.seq));
    for record in aegis_audit::read(&layout.audit())? {
        let record = record?;
        let other = |head: &Head| head.seq == record.seq + 1 && head.hash != record.hash;
        if lost.is_none() && heads.iter().any(other) {
            lost = Some(format!("record {} is another one", record.seq));
        }
        each(&record)?;
    }
    Ok(lost)
}

/// The generation that a record says the keystore has reached.
pub(crate) fn generation(record: &Record) -> Result<Option<u64>> {
    if record.body["event"] != KEYSTORE_EVENT {
        return Ok(None);
    }
    let claimed = record.body["generation"].as_u64().unwrap_or(0);
    // Nobody counts that far, and the next one must not wrap.
    if claimed >> 63 != 0 {
        let reason = format!(
            "record {} claims generation {claimed} of the keystore: it is forged",
            record.seq
        );
        return Err(VaultError::AuditRollback { reason });
    }
    Ok(Some(claimed))
}
