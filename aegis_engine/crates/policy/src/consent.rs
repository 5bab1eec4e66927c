//! The consent ledger: what data subjects allowed and forbade, in a hash-chained log.
//!
//! A record is `{"event":"consent.<what>","purpose":<text or null>,"subjects":[<32 hex digits>...]}` with `<what>` one
//! of `grant`, `withdraw`, `object`, `restrict`, `lift`, `erase`; null means every purpose. Subjects are pseudonyms.
//! The log's length is what permits watch: any new record revokes them at their next use.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_audit::{AuditError, Cursor, Log, Record};
use aegis_folder::{AsDir, Place};
use serde_json::{Value, json};

use crate::hex;
use crate::rows::{BySubject, Subject};

/// Subjects in one record: 35 bytes each, so that the payload stays below the log's 1 MiB.
const SUBJECTS_A_RECORD: usize = 25_000;

/// Longest name of a purpose, in bytes.
pub const MAX_PURPOSE: usize = 256;

pub(crate) const CONSENT: u8 = 1;
pub(crate) const OBJECTED: u8 = 2;
pub(crate) const RESTRICTED: u8 = 4;
pub(crate) const ERASED: u8 = 8;
/// Number of values the four bits can take.
pub(crate) const STATES: usize = 16;

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsentError {
    /// The log underneath.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// A record this version does not understand; ignoring it could ignore a withdrawal.
    #[error(
        "consent record {seq} cannot be understood ({reason}): update the engine or restore the ledger"
    )]
    Unreadable {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Erasure is final.
    #[error(
        "a subject of this grant is erased: erasure is final, take the person in under a new pseudonym"
    )]
    Erased,
    /// A purpose that cannot be recorded.
    #[error("purpose must be 1 to {MAX_PURPOSE} bytes without control characters")]
    BadPurpose,
    /// Other processes append faster than this one reads.
    #[error("the consent ledger does not come to rest: try again when the import is done")]
    Busy,
    /// The file cannot be seen.
    #[error("cannot stat the consent ledger {}: {source}; restore it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// What the ledger says about one subject and one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts that are independent of each other"
)]
pub struct Flags {
    /// Consent was given and not withdrawn.
    pub consent: bool,
    /// The subject objects.
    pub objected: bool,
    /// Processing is restricted.
    pub restricted: bool,
    /// The subject is erased.
    pub erased: bool,
}

impl Flags {
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self {
            consent: bits & CONSENT != 0,
            objected: bits & OBJECTED != 0,
            restricted: bits & RESTRICTED != 0,
            erased: bits & ERASED != 0,
        }
    }
}

type BitsOf = HashMap<Subject, u8, BySubject>;

#[derive(Default)]
struct State {
    /// Up to where the log is applied; `None` before the first record is read.
    cursor: Option<Cursor>,
    /// Length of the file whose records are all applied; `None` while it is not known.
    length: Option<u64>,
    /// Bits that hold for every purpose.
    everywhere: BitsOf,
    /// Bits by purpose.
    purposes: BTreeMap<String, BitsOf>,
}

/// Consent, objections, restrictions and erasures by subject and purpose.
pub struct ConsentLedger {
    dir: Place,
    log: Log,
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
    pub fn open<D: AsDir + ?Sized>(dir: &D, origin: &str) -> Result<Self, ConsentError> {
        Self::with(dir, Log::open(dir, origin)?)
    }

    /// As [`open`](Self::open) where nothing can be written: it takes no records.
    pub fn open_read_only<D: AsDir + ?Sized>(dir: &D, origin: &str) -> Result<Self, ConsentError> {
        Self::with(dir, Log::open_read_only(dir, origin)?)
    }

    fn with<D: AsDir + ?Sized>(dir: &D, log: Log) -> Result<Self, ConsentError> {
        let dir = dir.dir(false).map_err(|source| ConsentError::Io {
            path: dir.label().to_owned(),
            source,
        })?;
        let ledger = Self {
            dir,
            log,
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
        let mut state = self.current()?;
        if subjects
            .iter()
            .any(|s| state.bits(s, purpose) & ERASED != 0)
        {
            return Err(ConsentError::Erased);
        }
        self.append(&mut state, "grant", subjects, Some(purpose))
    }

    /// The subject withdraws consent to the purpose (GDPR article 7(3)). In force for running permits at once.
    pub fn withdraw(&self, subject: Subject, purpose: &str) -> Result<u64, ConsentError> {
        self.record("withdraw", &[subject], Some(purpose))
    }

    /// The subject objects to the purpose, or to all (GDPR article 21).
    pub fn object(&self, subject: Subject, purpose: Option<&str>) -> Result<u64, ConsentError> {
        self.record("object", &[subject], purpose)
    }

    /// Restricts the use of the subject's data, for the purpose or for all (GDPR article 18).
    pub fn restrict(&self, subject: Subject, purpose: Option<&str>) -> Result<u64, ConsentError> {
        self.record("restrict", &[subject], purpose)
    }

    /// Lifts objections and restrictions: with a purpose, those made for this purpose by name; without, all.
    pub fn lift(&self, subject: Subject, purpose: Option<&str>) -> Result<u64, ConsentError> {
        self.record("lift", &[subject], purpose)
    }

    /// The subject is erased (GDPR article 17): consent ends, and no row of theirs is used again. Final.
    pub fn erase(&self, subject: Subject) -> Result<u64, ConsentError> {
        self.record("erase", &[subject], None)
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

    fn record(
        &self,
        what: &str,
        subjects: &[Subject],
        purpose: Option<&str>,
    ) -> Result<u64, ConsentError> {
        let mut state = self.current()?;
        self.append(&mut state, what, subjects, purpose)
    }

    fn append(
        &self,
        state: &mut State,
        what: &str,
        subjects: &[Subject],
        purpose: Option<&str>,
    ) -> Result<u64, ConsentError> {
        if purpose.is_some_and(|p| {
            p.is_empty() || p.len() > MAX_PURPOSE || p.chars().any(char::is_control)
        }) {
            return Err(ConsentError::BadPurpose);
        }
        for chunk in subjects.chunks(SUBJECTS_A_RECORD) {
            let list: Vec<String> = chunk.iter().map(|s| hex(s)).collect();
            let event = format!("consent.{what}");
            self.log
                .append(&json!({"event": event, "purpose": purpose, "subjects": list}))?;
            // What counts is what the file says, in its order: others may have appended in between.
            self.catch_up(state)?;
        }
        Ok(state.epoch())
    }

    fn catch_up(&self, state: &mut State) -> Result<(), ConsentError> {
        let path = self.log.path();
        let length = || {
            std::fs::metadata(path)
                .map(|m| m.len())
                .map_err(|source| ConsentError::Io {
                    path: path.to_owned(),
                    source,
                })
        };
        for _ in 0..100 {
            let before = length()?;
            if state.length == Some(before) {
                return Ok(());
            }
            state.length = None;
            let mut records = match state.cursor {
                Some(cursor) => aegis_audit::read_from(&self.dir, cursor)?,
                None => aegis_audit::read(&self.dir)?,
            };
            while let Some(record) = records.next() {
                state.apply(&record?)?;
                state.cursor = Some(records.cursor());
            }
            // Only a length that stood still belongs to the records just read: a permit that watched a longer file
            // would not notice the records in between.
            if length()? == before {
                state.length = Some(before);
                return Ok(());
            }
        }
        Err(ConsentError::Busy)
    }
}

/// The ledger at one moment, for one decision.
pub(crate) struct View<'l> {
    path: &'l Path,
    state: MutexGuard<'l, State>,
}

impl View<'_> {
    pub(crate) fn epoch(&self) -> u64 {
        self.state.epoch()
    }

    pub(crate) fn watch(&self) -> (PathBuf, u64) {
        (self.path.to_owned(), self.state.length.unwrap_or(0))
    }

    /// One subject, looked up from the start.
    pub(crate) fn bits(&self, subject: &Subject, purpose: &str) -> u8 {
        self.state.bits(subject, purpose)
    }

    /// Many subjects of one purpose: the purpose is looked up once, empty tables never.
    pub(crate) fn bits_for(&self, purpose: &str) -> impl Fn(&Subject) -> u8 + '_ {
        let by_purpose = self
            .state
            .purposes
            .get(purpose)
            .filter(|table| !table.is_empty());
        let everywhere = Some(&self.state.everywhere).filter(|table| !table.is_empty());
        move |subject| {
            let look =
                |table: Option<&BitsOf>| table.and_then(|t| t.get(subject)).copied().unwrap_or(0);
            look(by_purpose) | look(everywhere)
        }
    }
}

impl State {
    fn epoch(&self) -> u64 {
        self.cursor.map_or(0, |cursor| cursor.head().seq)
    }

    fn bits(&self, subject: &Subject, purpose: &str) -> u8 {
        let everywhere = self.everywhere.get(subject).copied().unwrap_or(0);
        let here = self
            .purposes
            .get(purpose)
            .and_then(|table| table.get(subject))
            .copied()
            .unwrap_or(0);
        everywhere | here
    }

    fn apply(&mut self, record: &Record) -> Result<(), ConsentError> {
        let unreadable = |reason| ConsentError::Unreadable {
            seq: record.seq,
            reason,
        };
        let event = record
            .body
            .get("event")
            .and_then(Value::as_str)
            .ok_or_else(|| unreadable("no event"))?;
        // The log itself says that a crash left half a record, which nobody was told had been taken.
        if event == "recovery.truncated" {
            return Ok(());
        }
        let purpose = match record.body.get("purpose") {
            Some(Value::Null) => None,
            Some(Value::String(purpose)) => Some(purpose.as_str()),
            _ => return Err(unreadable("no purpose")),
        };
        let subjects = record.body.get("subjects").and_then(Value::as_array);
        let subjects: Vec<Subject> = subjects
            .and_then(|list| list.iter().map(|s| s.as_str().and_then(unhex)).collect())
            .ok_or_else(|| unreadable("bad subjects"))?;
        match (event, purpose) {
            ("consent.grant", Some(_)) => self.change(&subjects, purpose, CONSENT, 0),
            ("consent.withdraw", Some(_)) => self.change(&subjects, purpose, 0, CONSENT),
            ("consent.object", _) => self.change(&subjects, purpose, OBJECTED, 0),
            ("consent.restrict", _) => self.change(&subjects, purpose, RESTRICTED, 0),
            ("consent.lift", Some(_)) => self.change(&subjects, purpose, 0, OBJECTED | RESTRICTED),
            ("consent.lift", None) => self.clear(&subjects, OBJECTED | RESTRICTED),
            ("consent.erase", None) => {
                self.clear(&subjects, CONSENT);
                self.change(&subjects, None, ERASED, 0);
            }
            _ => return Err(unreadable("unknown event")),
        }
        Ok(())
    }

    fn change(&mut self, subjects: &[Subject], purpose: Option<&str>, set: u8, clear: u8) {
        let table = match purpose {
            None => &mut self.everywhere,
            Some(purpose) => self.purposes.entry(purpose.to_owned()).or_default(),
        };
        for subject in subjects {
            let bits = table.entry(*subject).or_default();
            *bits = (*bits | set) & !clear;
        }
    }

    fn clear(&mut self, subjects: &[Subject], clear: u8) {
        for table in self.purposes.values_mut().chain([&mut self.everywhere]) {
            for subject in subjects {
                if let Some(bits) = table.get_mut(subject) {
                    *bits &= !clear;
                }
            }
        }
    }
}

fn unhex(text: &str) -> Option<Subject> {
    let bytes: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut subject = [0; 16];
    for (byte, pair) in subject.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(subject)
}
