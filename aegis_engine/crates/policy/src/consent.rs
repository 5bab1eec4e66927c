//! The consent ledger: what data subjects allowed and forbade, in a hash-chained log.
//!
//! A record is `{"event":"consent.<what>","purpose":<text or null>,"subjects":[<32 hex digits>...],"proof":<64 hex
//! digits>}` with `<what>` one of `grant`, `withdraw`, `object`, `restrict`, `lift`, `erase`; null means every purpose.
//! Subjects are pseudonyms. The log's length is what permits watch: any new record revokes them at their next use.
//!
//! The log itself has no secret, so whoever writes files can append to it. A record's proof is a MAC of the vault over
//! its number and content. A record without the right one counts only towards denial: a forged grant or lift gives
//! nothing, a forged withdrawal still denies. `consent.adopt` is the vault's word for records from before there were
//! proofs: all in front of it count as proven.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_audit::{AuditError, Cursor, Event, Head, Log, Record};
use aegis_folder::{AsDir, Place};
use serde_json::{Value, json};

use crate::hex;
use crate::rows::{BySubject, Subject};
use crate::words::{self, Flaw};

/// Subjects in one record: 35 bytes each, so that the payload stays below the log's 1 MiB.
const SUBJECTS_A_RECORD: usize = 25_000;

pub(crate) const CONSENT: u8 = 1;
pub(crate) const OBJECTED: u8 = 2;
pub(crate) const RESTRICTED: u8 = 4;
pub(crate) const ERASED: u8 = 8;
/// Withdrew, and did not consent anew: no side effect grants again. Not part of what policies see.
const WITHDREW: u8 = 16;
const SEEN: u8 = 15;
/// Number of values the four bits can take.
pub(crate) const STATES: usize = 16;
/// Hashes of records kept, to see whether a committed head is among them.
const HASHES: usize = 4096;

/// A MAC over bytes that only the vault of the ledger can make.
pub type Prove = Box<dyn Fn(&[u8]) -> [u8; 32] + Send + Sync>;

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
    #[error("this is no name of a purpose: {flaw}; correct it")]
    BadPurpose {
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// Neither.
    #[error("this is no name: {flaw}; correct it")]
    BadName {
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// An identifier that names nobody.
    #[error("this is no identifier of a person: {flaw}; correct it")]
    BadSubject {
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The keystore knows of records that are not there: an older file was put back.
    #[error(
        "an older consent ledger was put back, or it was rewritten: {left} records are left, {expected} were there; restore the newest copy of the folder consent/ (withdrawals may be missing, so nothing is allowed)"
    )]
    RolledBack {
        /// Records that the keystore knows of.
        expected: u64,
        /// Records that are there.
        left: u64,
    },
    /// No row of a live dataset is theirs.
    #[error(
        "{count} of the people named are without a row in any live data set{hint}; nothing was recorded. Correct the identifier, or say unknown_ok=True to record it all the same"
    )]
    UnknownSubject {
        /// How many.
        count: usize,
        /// What they may have meant.
        hint: &'static str,
    },
    /// No live dataset may be used for it.
    #[error(
        "no live data set has the purpose {purpose:?}{hint}; nothing was recorded. Correct it, or say unknown_ok=True to record it all the same"
    )]
    UnknownPurpose {
        /// As given.
        purpose: String,
        /// What they may have meant.
        hint: String,
    },
    /// Rows of erased people.
    #[error(
        "{rows} rows are of people who are erased: erasure is final. Leave these rows out (ingest: erased=\"drop\"); nothing was stored"
    )]
    ErasedRows {
        /// How many.
        rows: usize,
    },
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

/// What a record of the ledger changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Consent is given.
    Grant,
    /// Consent is withdrawn.
    Withdraw,
    /// An objection is made.
    Object,
    /// A restriction is made.
    Restrict,
    /// Objections and restrictions are lifted.
    Lift,
    /// A person is erased.
    Erase,
}

impl Change {
    /// The last word of its event.
    pub fn name(self) -> &'static str {
        self.event().name().rsplit('.').next().unwrap_or_default()
    }

    fn event(self) -> Event {
        match self {
            Self::Grant => Event::ConsentGrant,
            Self::Withdraw => Event::ConsentWithdraw,
            Self::Object => Event::ConsentObject,
            Self::Restrict => Event::ConsentRestrict,
            Self::Lift => Event::ConsentLift,
            Self::Erase => Event::ConsentErase,
        }
    }
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
    /// Records in front of this one need no proof.
    adopted: u64,
    /// What the keystore committed last: must lie in the log.
    committed: Option<Head>,
    /// Hashes of the last records, the newest last.
    hashes: VecDeque<[u8; 32]>,
    /// Grants and lifts without a proof, which gave nothing.
    ignored: u64,
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

    fn proof(&self, seq: u64, event: &str, purpose: Option<&str>, rest: &[u8]) -> String {
        // Each part behind its length or of a fixed one: no two records have the same bytes.
        let mut covered = seq.to_le_bytes().to_vec();
        for part in [Some(event), purpose] {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            covered.extend_from_slice(&length.to_le_bytes());
            covered.extend_from_slice(part.unwrap_or_default().as_bytes());
        }
        covered.extend_from_slice(rest);
        hex(&(self.prove)(&covered))
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
                return self.check_committed(state);
            }
            state.length = None;
            let mut records = match state.cursor {
                Some(cursor) => aegis_audit::read_from(&self.dir, cursor)?,
                None => aegis_audit::read(&self.dir)?,
            };
            let adopted = state.adopted;
            state.cursor = Some(records.cursor());
            while let Some(record) = records.next() {
                let record = record?;
                self.apply(state, &record)?;
                if state.hashes.len() == HASHES {
                    state.hashes.pop_front();
                }
                state.hashes.push_back(record.hash);
                state.cursor = Some(records.cursor());
            }
            if state.adopted > adopted && state.ignored > 0 {
                // What counted for nothing counts after all: from the start.
                *state = State {
                    adopted: state.adopted,
                    committed: state.committed,
                    ..State::default()
                };
                continue;
            }
            // Only a length that stood still belongs to the records just read: a permit that watched a longer file
            // would not notice the records in between.
            if length()? == before {
                self.check_committed(state)?;
                state.length = Some(before);
                return Ok(());
            }
        }
        Err(ConsentError::Busy)
    }

    /// What the keystore committed must lie in what was read.
    fn check_committed(&self, state: &State) -> Result<(), ConsentError> {
        let Some(head) = state.committed.filter(|head| head.seq > 0) else {
            return Ok(());
        };
        let rolled_back = || ConsentError::RolledBack {
            expected: head.seq,
            left: state.epoch(),
        };
        let behind = state
            .epoch()
            .checked_sub(head.seq)
            .ok_or_else(rolled_back)?;
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let place = state.hashes.len().checked_sub(behind.saturating_add(1));
        let same = match place {
            Some(place) => state.hashes.get(place) == Some(&head.hash),
            // Long ago: the whole chain says.
            None => match aegis_audit::verify(&self.dir, None, Some(&head)) {
                Ok(_) => true,
                Err(AuditError::Rollback { .. }) => false,
                Err(other) => return Err(other.into()),
            },
        };
        if same { Ok(()) } else { Err(rolled_back()) }
    }

    fn apply(&self, state: &mut State, record: &Record) -> Result<(), ConsentError> {
        let unreadable = |reason| ConsentError::Unreadable {
            seq: record.seq,
            reason,
        };
        let text = |field: &str| record.body.get(field).and_then(Value::as_str);
        let event = text("event").ok_or_else(|| unreadable("no event"))?;
        // The log itself says that a crash left half a record, which nobody was told had been taken.
        if event == Event::RecoveryTruncated.name() {
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
        let told = text("proof").unwrap_or_default();
        let proven = |rest: &[u8]| {
            let genuine = self.proof(record.seq, event, purpose, rest);
            aws_lc_rs::constant_time::verify_slices_are_equal(genuine.as_bytes(), told.as_bytes())
                .is_ok()
        };
        if event == Event::ConsentAdopt.name() {
            let before = hex(&state.head(&self.log).hash);
            if text("head") == Some(&*before) && proven(before.as_bytes()) {
                // At least 1, so that an empty ledger that was adopted is not adopted again.
                state.adopted = state.adopted.max(record.seq).max(1);
            }
            return Ok(());
        }
        // Only what allows needs a proof.
        let allows = record.seq < state.adopted || proven(subjects.as_flattened());
        match (event, purpose) {
            ("consent.grant", Some(_)) if allows => {
                state.change(&subjects, purpose, CONSENT, WITHDREW);
            }
            ("consent.lift", Some(_)) if allows => {
                state.change(&subjects, purpose, 0, OBJECTED | RESTRICTED);
            }
            ("consent.lift", None) if allows => state.clear(&subjects, OBJECTED | RESTRICTED),
            ("consent.grant", Some(_)) | ("consent.lift", _) => state.ignored += 1,
            ("consent.withdraw", Some(_)) => state.change(&subjects, purpose, WITHDREW, CONSENT),
            ("consent.object", _) => state.change(&subjects, purpose, OBJECTED, 0),
            ("consent.restrict", _) => state.change(&subjects, purpose, RESTRICTED, 0),
            ("consent.erase", None) => {
                state.clear(&subjects, CONSENT);
                state.change(&subjects, None, ERASED, 0);
            }
            _ => return Err(unreadable("unknown event")),
        }
        Ok(())
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
            (look(by_purpose) | look(everywhere)) & SEEN
        }
    }
}

impl State {
    fn epoch(&self) -> u64 {
        self.cursor.map_or(0, |cursor| cursor.head().seq)
    }

    /// Where the log stands as far as it is applied.
    fn head(&self, log: &Log) -> Head {
        self.cursor
            .map_or_else(|| log.head(), |cursor| cursor.head())
    }

    fn bits(&self, subject: &Subject, purpose: &str) -> u8 {
        self.raw(subject, purpose) & SEEN
    }

    fn raw(&self, subject: &Subject, purpose: &str) -> u8 {
        let everywhere = self.everywhere.get(subject).copied().unwrap_or(0);
        let here = self
            .purposes
            .get(purpose)
            .and_then(|table| table.get(subject))
            .copied()
            .unwrap_or(0);
        everywhere | here
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
