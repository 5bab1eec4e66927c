//! Opening a vault: the key, the lock, then keystore, audit log and consent compared under it, and what a crash left finished.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_audit::Event;
use aegis_policy::{ConsentLedger, PolicyError};
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::paths::{About, Paths};
use crate::keys::auth::Auth;
use crate::keys::epoch;
use crate::keys::provider::Provider;
use crate::ops::destroy;
use crate::ops::recover::INTENTS;
use crate::system::files;
use crate::system::lock::{self, VaultLock};
use crate::vault::consents;
use crate::vault::journal;
use crate::vault::state::{self, State};
use crate::vault::trail;
use crate::vault::{Exclusive, LOCK_WAIT_MS, Parts, Vault};

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
        let (vault, held) = opening.open(&Paths::open(path)?, provider)?;
        drop(held);
        if !vault.inner.read_only {
            vault.settle_consent()?;
        }
        Ok(vault)
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
    pub fn open(self, paths: &Paths, provider: &Provider) -> Result<(Vault, VaultLock)> {
        let about = match self.about(paths)? {
            Ok(about) => about,
            Err(destroyed) => return Err(destroy::forward(paths, &destroyed, provider)?),
        };
        let ask = |vault| {
            let envelope = state::readable(paths, vault)?;
            Ok(Arc::new(Auth::of(&envelope, provider, &paths.root)?))
        };
        // Asked before the lock is taken: a person or a token takes its time, and a wrong key changes nothing at all.
        let auth = match self.auth {
            Some(ref auth) => Some(Arc::clone(auth)),
            None => match ask(about.id) {
                Ok(auth) => Some(auth),
                Err(error) => match self.about(paths)? {
                    // It is being destroyed just now.
                    Err(_) => None,
                    Ok(_) => return Err(error),
                },
            },
        };
        let read_only = lock::read_only(&paths.lock())?;
        let wait = Duration::from_millis(LOCK_WAIT_MS);
        let mut held = if read_only {
            lock::shared(&paths.lock(), wait)?
        } else {
            lock::exclusive(&paths.lock(), wait)?
        };
        let about = match self.about(paths)? {
            Ok(about) => about,
            Err(destroyed) => {
                drop(held);
                return Err(destroy::forward(paths, &destroyed, provider)?);
            }
        };
        let id = about.id;
        let auth = auth.map_or_else(|| ask(id), Ok)?;
        let (state, auth) = State::load_reaching(paths, id, &auth, about.epoch)?;
        // From here on the folder is this vault's, by the word of who has its key.
        if read_only && (self.accept_older || self.rebuild) {
            return Err(VaultError::ReadOnly {
                path: paths.root.clone(),
            });
        }
        held.sign();
        if self.rebuild {
            about.write(paths)?;
        }
        if !read_only {
            epoch::settle(paths, id, state.epoch, provider)?;
        }
        let (log, newest) = trail::open(paths, id, &state, read_only)?;
        let older = newest > state.generation;
        if older && !self.accept_older {
            return Err(state.stale(newest));
        }
        let consent = consent(paths, id, &state, read_only)?;
        let follows = about.epoch == state.epoch && about.provider == provider.kind().name();
        let vault = Vault::assemble(Parts {
            paths: paths.clone(),
            id,
            auth,
            log,
            consent,
            state,
            read_only,
            intents: INTENTS,
        });
        let behind = vault.inner.known().is_far_behind(&vault.inner.log.mark());
        if !read_only && (older || behind || !follows || journal::needed(paths)?) {
            let mut exclusive = vault.inner.exclusive_holding(held)?;
            if older {
                exclusive.accept(newest)?;
            }
            journal::roll_forward(&mut exclusive)?;
            if behind {
                exclusive.commit()?;
            }
            held = exclusive.finish()?;
        }
        Ok((vault, held))
    }

    /// `vault.json`, or what it says when the vault was destroyed.
    fn about(&self, paths: &Paths) -> Result<Result<About, About>> {
        let about = match About::read(paths) {
            Err(VaultError::AboutDamaged { .. } | VaultError::NotAVault { .. })
                if self.rebuild && files::exists(&paths.keystore())? =>
            {
                let envelope = state::peek(paths)?;
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
fn consent(paths: &Paths, id: Uuid, state: &State, read_only: bool) -> Result<ConsentLedger> {
    let origin = format!("aegis/consent/{id}");
    let prove = consents::prove(&state.body.node)?;
    let consent = if read_only {
        ConsentLedger::open_read_only(&paths.consent(), &origin, prove)
    } else {
        ConsentLedger::open(&paths.consent(), &origin, prove)
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
