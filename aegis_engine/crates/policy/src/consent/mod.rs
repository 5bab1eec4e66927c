//! What belongs to the consent ledger may be put here: what data subjects allowed and forbade, in a hash-chained log.
//!
//! A record is `{"event":"consent.<what>","purpose":<text or null>,"subjects":[<32 hex digits>...],"proof":<64 hex
//! digits>}` with `<what>` one of `grant`, `withdraw`, `object`, `restrict`, `lift`, `erase`; null means every purpose.
//! Subjects are pseudonyms. The log's length is what permits watch: any new record revokes them at their next use.
//!
//! The log itself has no secret, so whoever writes files can append to it. A record's proof is a MAC of the vault over
//! its number and content. A record without the right one counts only towards denial: a forged grant or lift gives
//! nothing, a forged withdrawal still denies. `consent.adopt` is the vault's word for records from before there were
//! proofs: all in front of it count as proven.

mod apply;
mod change;
mod state;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_audit::{Event, Head, Log};
use aegis_folder::{AsDir, Place};
use serde_json::json;

pub use change::Change;
pub use state::Flags;
use state::{CONSENT, ERASED, State, WITHDREW};
pub(crate) use state::{STATES, View};

use crate::digest::hex;
pub use crate::error::ConsentError;
use crate::error::Flaw;
use crate::rows::Subject;
use crate::words;

/// Subjects in one record: 35 bytes each, so that the payload stays below the log's 1 MiB.
const SUBJECTS_A_RECORD: usize = 25_000;

/// A MAC over bytes that only the vault of the ledger can make.
pub type Prove = Box<dyn Fn(&[u8]) -> [u8; 32] + Send + Sync>;

/// Consent, objections, restrictions and erasures by subject and purpose.
pub struct ConsentLedger {
    dir: Place,
    log: Log,
    prove: Prove,
    state: Mutex<State>,
}

impl fmt::Debug for ConsentLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentLedger")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl ConsentLedger {
    /// Opens the ledger in `dir`, creates it when there is none, checks the chain and reads it.
    pub fn open<D: AsDir + ?Sized>(
        dir: &D,
        origin: &str,
        prove: Prove,
    ) -> Result<Self, ConsentError> {
        Self::with(dir, Log::open(dir, origin)?, prove)
    }

    /// As [`open`](Self::open) where nothing can be written: it takes no records.
    pub fn open_read_only<D: AsDir + ?Sized>(
        dir: &D,
        origin: &str,
        prove: Prove,
    ) -> Result<Self, ConsentError> {
        Self::with(dir, Log::open_read_only(dir, origin)?, prove)
    }

    fn with<D: AsDir + ?Sized>(dir: &D, log: Log, prove: Prove) -> Result<Self, ConsentError> {
        let dir = dir.dir(false).map_err(|source| ConsentError::Io {
            path: dir.label().to_owned(),
            source,
        })?;
        let ledger = Self {
            dir,
            log,
            prove,
            state: Mutex::new(State::default()),
        };
        ledger.refresh()?;
        Ok(ledger)
    }

    /// The subject consents to the purpose. Refused for an erased subject. Returns the ledger's new epoch.
    pub fn grant(&self, subject: Subject, purpose: &str) -> Result<u64, ConsentError> {
        self.grant_many(&[subject], purpose)
    }

    /// [`ConsentLedger::grant`] for many subjects, 25 000 a record: one sync to disk each.
    pub fn grant_many(&self, subjects: &[Subject], purpose: &str) -> Result<u64, ConsentError> {
        self.change(Change::Grant, subjects, Some(purpose))
    }

    /// Consent that comes with data: for those who never withdrew it and do not have it yet. A withdrawal stands until an
    /// explicit [`ConsentLedger::grant`]. Returns how many it was given to and how many it was withheld from.
    pub fn grant_with_data(
        &self,
        subjects: &[Subject],
        purpose: &str,
    ) -> Result<(u64, u64), ConsentError> {
        let mut state = self.current()?;
        let raw = |s: &Subject| state.raw(s, purpose);
        let withheld = subjects
            .iter()
            .filter(|s| raw(s) & (WITHDREW | ERASED) != 0)
            .count();
        let new: Vec<Subject> = subjects
            .iter()
            .filter(|s| raw(s) & (WITHDREW | ERASED | CONSENT) == 0)
            .copied()
            .collect();
        self.append(&mut state, Change::Grant, &new, Some(purpose))?;
        Ok((new.len() as u64, withheld as u64))
    }

    /// The subject withdraws consent to the purpose (GDPR article 7(3)). In force for running permits at once.
    pub fn withdraw(&self, subject: Subject, purpose: &str) -> Result<u64, ConsentError> {
        self.change(Change::Withdraw, &[subject], Some(purpose))
    }

    /// The subject objects to the purpose, or to all (GDPR article 21).
    pub fn object(&self, subject: Subject, purpose: Option<&str>) -> Result<u64, ConsentError> {
        self.change(Change::Object, &[subject], purpose)
    }

    /// Restricts the use of the subject's data, for the purpose or for all (GDPR article 18).
    pub fn restrict(&self, subject: Subject, purpose: Option<&str>) -> Result<u64, ConsentError> {
        self.change(Change::Restrict, &[subject], purpose)
    }

    /// Lifts objections and restrictions: with a purpose, those made for this purpose by name; without, all.
    pub fn lift(&self, subject: Subject, purpose: Option<&str>) -> Result<u64, ConsentError> {
        self.change(Change::Lift, &[subject], purpose)
    }

    /// The subject is erased (GDPR article 17): consent ends, and no row of theirs is used again. Final.
    pub fn erase(&self, subject: Subject) -> Result<u64, ConsentError> {
        self.change(Change::Erase, &[subject], None)
    }

    /// One change for many subjects, 25 000 a record: one sync to disk each. Returns the ledger's new epoch.
    pub fn change(
        &self,
        change: Change,
        subjects: &[Subject],
        purpose: Option<&str>,
    ) -> Result<u64, ConsentError> {
        let mut state = self.current()?;
        if change == Change::Grant
            && subjects
                .iter()
                .any(|s| state.bits(s, purpose.unwrap_or_default()) & ERASED != 0)
        {
            return Err(ConsentError::Erased);
        }
        self.append(&mut state, change, subjects, purpose)
    }

    /// From now on every record that is there counts as proven: once, for a ledger from before there were proofs.
    pub fn adopt(&self) -> Result<u64, ConsentError> {
        let mut state = self.current()?;
        let head = state.head(&self.log);
        let hash = hex(&head.hash);
        let proof = self.proof(head.seq, Event::ConsentAdopt.name(), None, hash.as_bytes());
        self.log.append(&json!({
            "event": Event::ConsentAdopt.name(), "purpose": null, "subjects": [], "head": hash, "proof": proof,
        }))?;
        self.catch_up(&mut state)?;
        Ok(state.epoch())
    }

    /// Whether [`ConsentLedger::adopt`] was done.
    pub fn adopted(&self) -> bool {
        self.lock().adopted > 0
    }

    /// What the keystore committed: a ledger without it is refused from now on.
    pub fn expect(&self, head: Head) {
        let mut state = self.lock();
        if state.committed.is_none_or(|known| known.seq <= head.seq) {
            state.committed = Some(head);
        }
    }

    /// Number of records applied and the hash of the last, of the file's header when there is none.
    pub fn head(&self) -> Head {
        self.lock().head(&self.log)
    }

    /// Grants and lifts that count for nothing, because this vault did not write them.
    pub fn ignored(&self) -> u64 {
        self.lock().ignored
    }

    /// Which of these subjects are erased.
    pub fn erased(&self, subjects: &[Subject]) -> Result<Vec<bool>, ConsentError> {
        let state = self.current()?;
        let erased = |s: &Subject| state.everywhere.get(s).copied().unwrap_or(0) & ERASED != 0;
        Ok(subjects.iter().map(erased).collect())
    }

    /// What the ledger says, as of the last [`ConsentLedger::refresh`] or change through this handle.
    pub fn flags(&self, subject: Subject, purpose: &str) -> Flags {
        Flags::from_bits(self.lock().bits(&subject, purpose))
    }

    /// Number of records applied: grows with every change.
    pub fn epoch(&self) -> u64 {
        self.lock().epoch()
    }

    /// The log file and the length of what is applied. A file of another length means that this state is old.
    pub fn watch(&self) -> (PathBuf, u64) {
        // 0 is the length of no ledger, so an unknown state never passes for a current one.
        (self.log.path().to_owned(), self.lock().length.unwrap_or(0))
    }

    /// Reads what other processes appended. Cheap when nothing was. Returns the epoch.
    pub fn refresh(&self) -> Result<u64, ConsentError> {
        Ok(self.current()?.epoch())
    }

    /// The state as the file is now; no change through this handle while the view lives.
    pub(crate) fn view(&self) -> Result<View<'_>, ConsentError> {
        Ok(View {
            path: self.log.path(),
            state: self.current()?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A record is applied before the cursor moves past it, and applying it twice is the same as once: a thread
        // that panicked between the two leaves nothing behind that the next reading does not put right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Result<MutexGuard<'_, State>, ConsentError> {
        let mut state = self.lock();
        self.catch_up(&mut state)?;
        Ok(state)
    }

    fn append(
        &self,
        state: &mut State,
        change: Change,
        subjects: &[Subject],
        purpose: Option<&str>,
    ) -> Result<u64, ConsentError> {
        if let Some(purpose) = purpose
            && words::purpose(purpose)? != purpose
        {
            return Err(ConsentError::BadPurpose {
                flaw: Flaw::Unnormal,
            });
        }
        let event = change.event().name();
        for chunk in subjects.chunks(SUBJECTS_A_RECORD) {
            let list: Vec<String> = chunk.iter().map(|s| hex(s)).collect();
            let mut tries = 0..100;
            loop {
                let seq = state.epoch();
                let proof = self.proof(seq, event, purpose, chunk.as_flattened());
                let record = self.log.append(&json!({
                    "event": event, "purpose": purpose, "subjects": list, "proof": proof,
                }))?;
                // What counts is what the file says, in its order: others may have appended in between, and then the proof
                // is of another place.
                self.catch_up(state)?;
                if record.seq == seq {
                    break;
                }
                if tries.next().is_none() {
                    return Err(ConsentError::Busy);
                }
            }
        }
        Ok(state.epoch())
    }
}
