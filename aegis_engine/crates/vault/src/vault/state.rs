//! The keystore as this process knows it, and how it follows the file.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use aegis_audit::Mark;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::changes::{Chain, Next, RECORD, Scratch};
use crate::format::envelope::{self, BASE_MAX, Base, Envelope, FIXED, Form, Opened};
use crate::format::keystore::{Body, Delta};
use crate::format::kind::PARAMS_MAX;
use crate::format::paths::{About, Paths};
use crate::keys::auth::Auth;
use crate::system::files::{self, Stamp};

/// A base, changes as large, and a torn one.
const KEYSTORE_MAX: u64 = BASE_MAX + (RECORD + crate::format::changes::CHANGE_MAX) as u64;
/// Changes are not written anew before they have this many bytes.
const CHANGES_MIN: u64 = 64 << 10;

/// Bytes of the audit log that an opening verifies again.
const TRAIL_MAX: u64 = 1 << 20;

/// The keystore as last read.
pub(crate) struct State {
    pub stamp: Stamp,
    pub epoch: u64,
    pub generation: u64,
    pub body: Body,
    tail: Tail,
}

/// Where the file ended.
struct Tail {
    /// The start of the file, which tells one base from every other: its salt is random.
    front: [u8; FIXED],
    /// Where the base ends.
    base: u64,
    /// Where the last whole change ends.
    end: u64,
    /// Something follows that is no whole change.
    torn: bool,
    /// Seals the next change; version 1 has none.
    chain: Option<Chain>,
}

/// The keystore file, with what can be read of it without a key.
pub(crate) fn keystore(paths: &Paths, vault: Uuid) -> Result<(Vec<u8>, Envelope)> {
    let path = paths.keystore();
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

/// The readable part of the keystore of a vault.
pub(crate) fn readable(paths: &Paths, vault: Uuid) -> Result<Envelope> {
    keystore(paths, vault).map(|(_, envelope)| envelope)
}

/// The readable part of the keystore, of whatever vault.
pub(crate) fn peek(paths: &Paths) -> Result<Envelope> {
    envelope::peek(
        &files::read(&paths.keystore(), KEYSTORE_MAX)?,
        Form::Keystore,
    )
}

fn front(bytes: &[u8]) -> [u8; FIXED] {
    let mut front = [0; FIXED];
    front.copy_from_slice(&bytes[..FIXED]);
    front
}

impl State {
    /// Reads and opens the keystore; gives a new `Auth` when a rotation made the known one obsolete and the same
    /// provider has the new key. The caller holds the lock.
    pub fn load(paths: &Paths, vault: Uuid, known: &Arc<Auth>) -> Result<(Self, Arc<Auth>)> {
        let reached = About::read(paths)?.epoch;
        Self::load_reaching(paths, vault, known, reached)
    }

    /// As [`load`](Self::load), where `vault.json` does not say which epoch was reached.
    pub fn load_reaching(
        paths: &Paths,
        vault: Uuid,
        known: &Arc<Auth>,
        reached: u64,
    ) -> Result<(Self, Arc<Auth>)> {
        let (bytes, envelope) = keystore(paths, vault)?;
        let stamp = Stamp::of(&paths.keystore())?;
        let auth = if known.fits(&envelope) {
            Arc::clone(known)
        } else {
            Arc::new(Auth::of(&envelope, &known.provider, &paths.root)?)
        };
        if envelope.epoch < reached {
            return Err(VaultError::KeystoreRollback {
                expected: reached,
                found: envelope.epoch,
            });
        }
        let secret = auth.epoch_key(paths, vault, envelope.epoch)?;
        let root = auth.root(vault, &secret)?;
        let Opened { body, end, chain } = envelope::open(&bytes, Form::Keystore, &root)?;
        let mut state = Self {
            stamp,
            epoch: envelope.epoch,
            generation: envelope.generation,
            body,
            tail: Tail {
                front: front(&bytes),
                base: end as u64,
                end: end as u64,
                torn: false,
                chain,
            },
        };
        state.take_in(&bytes[end..])?;
        Ok((state, auth))
    }

    /// A base with `delta` was put in place.
    pub fn rebase(
        &mut self,
        stamp: Stamp,
        envelope: &Envelope,
        base: Base,
        delta: Delta,
        audit: Mark,
    ) {
        let end = base.bytes.len() as u64;
        self.body.apply(delta, audit);
        self.stamp = stamp;
        self.epoch = envelope.epoch;
        self.generation = envelope.generation;
        self.tail = Tail {
            front: front(&base.bytes),
            base: end,
            end,
            torn: false,
            chain: Some(base.chain),
        };
    }

    /// Applies the changes in `rest`, what follows in the file.
    fn take_in(&mut self, mut rest: &[u8]) -> Result<()> {
        let Some(chain) = &mut self.tail.chain else {
            return Ok(()); // version 1: its length is exact
        };
        self.tail.torn = false;
        let mut scratch = Scratch::default();
        loop {
            match chain.open(rest, &mut scratch)? {
                Next::End => return Ok(()),
                Next::Torn => {
                    self.tail.torn = true;
                    return Ok(());
                }
                Next::Change(plain, bytes) => {
                    let (delta, audit) = Delta::decode(plain)?;
                    self.body.apply(delta, audit);
                    self.generation = chain.generation;
                    self.tail.end += bytes as u64;
                    rest = &rest[bytes..];
                }
            }
        }
    }

    /// Takes in what was appended since, when only that happened; false: the file is another one. The caller holds the
    /// lock.
    pub fn follow(&mut self, paths: &Paths, stamp: Stamp) -> Result<bool> {
        let path = paths.keystore();
        let file = path.open().map_err(VaultError::io("open", &path))?;
        let mut seen = [0; FIXED];
        if stamp.len < self.tail.end
            || self.tail.chain.is_none()
            || file.read_exact_at(&mut seen, 0).is_err()
            || seen != self.tail.front
        {
            return Ok(false);
        }
        let more = usize::try_from(stamp.len - self.tail.end).unwrap_or(usize::MAX);
        let mut rest = vec![0; more.min(usize::try_from(KEYSTORE_MAX).unwrap_or(usize::MAX))];
        file.read_exact_at(&mut rest, self.tail.end)
            .map_err(VaultError::io("read", &path))?;
        self.take_in(&rest)?;
        self.stamp = stamp;
        Ok(true)
    }

    /// What seals the next change, and where it goes; `None`: a change of `bytes` is written as a new base. The changes have
    /// at most a quarter of the base, so that opening is quick, and all bases ever written at most five times what was stored.
    pub fn next(&self, bytes: u64) -> Option<(&Chain, u64)> {
        let Tail {
            base, end, torn, ..
        } = self.tail;
        let (changes, all) = (end - base + bytes, end + bytes);
        let fits = !torn
            && bytes <= crate::format::changes::CHANGE_MAX as u64
            && changes <= (base / 4).max(CHANGES_MIN)
            && all + (PARAMS_MAX as u64) < BASE_MAX;
        self.tail
            .chain
            .as_ref()
            .filter(|_| fits)
            .map(|chain| (chain, end))
    }

    /// A change of `bytes` became durable.
    pub fn appended(&mut self, stamp: Stamp, bytes: u64, link: [u8; 32]) {
        if let Some(chain) = &mut self.tail.chain {
            chain.advance(link);
            self.generation = chain.generation;
        }
        self.tail.end += bytes;
        self.stamp = stamp;
    }

    /// A keystore before records had proofs: whoever wrote it could not give one.
    pub fn is_first_version(&self) -> bool {
        self.tail.chain.is_none()
    }

    /// Whether so much of the audit log lies behind what is remembered of it that the next opening should not read it again.
    pub fn is_far_behind(&self, log: &Mark) -> bool {
        !self.is_first_version() && log.end.saturating_sub(self.body.audit.end) > TRAIL_MAX
    }

    /// The log knows of the generation `newest`.
    pub fn stale(&self, newest: u64) -> VaultError {
        if self.tail.torn {
            return VaultError::KeystoreCorrupt {
                reason: format!(
                    "the change at byte {}; it was complete once, the audit log knows its generation {newest}",
                    self.tail.end
                ),
            };
        }
        VaultError::KeystoreStale {
            expected: newest,
            found: self.generation,
        }
    }
}
