//! What the ledger says of subjects, in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use aegis_audit::{Cursor, Head, Log};

use crate::rows::{BySubject, Subject};

pub(super) const CONSENT: u8 = 1;

pub(super) const OBJECTED: u8 = 2;

pub(super) const RESTRICTED: u8 = 4;

pub(super) const ERASED: u8 = 8;

/// Withdrew, and did not consent anew: no side effect grants again. Not part of what policies see.
pub(super) const WITHDREW: u8 = 16;

const SEEN: u8 = 15;

/// Number of values the four bits can take.
pub(crate) const STATES: usize = 16;

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
pub(super) struct State {
    /// Records in front of this one need no proof.
    pub adopted: u64,
    /// What the keystore committed last: must lie in the log.
    pub committed: Option<Head>,
    /// Hashes of the last records, the newest last.
    pub hashes: VecDeque<[u8; 32]>,
    /// Grants and lifts without a proof, which gave nothing.
    pub ignored: u64,
    /// Up to where the log is applied; `None` before the first record is read.
    pub cursor: Option<Cursor>,
    /// Length of the file whose records are all applied; `None` while it is not known.
    pub length: Option<u64>,
    /// Bits that hold for every purpose.
    pub everywhere: BitsOf,
    /// Bits by purpose.
    pub purposes: BTreeMap<String, BitsOf>,
}

/// The ledger at one moment, for one decision.
pub(crate) struct View<'l> {
    pub(super) path: &'l Path,
    pub(super) state: MutexGuard<'l, State>,
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
    pub fn epoch(&self) -> u64 {
        self.cursor.map_or(0, |cursor| cursor.head().seq)
    }

    /// Where the log stands as far as it is applied.
    pub fn head(&self, log: &Log) -> Head {
        self.cursor
            .map_or_else(|| log.head(), |cursor| cursor.head())
    }

    pub fn bits(&self, subject: &Subject, purpose: &str) -> u8 {
        self.raw(subject, purpose) & SEEN
    }

    pub fn raw(&self, subject: &Subject, purpose: &str) -> u8 {
        let everywhere = self.everywhere.get(subject).copied().unwrap_or(0);
        let here = self
            .purposes
            .get(purpose)
            .and_then(|table| table.get(subject))
            .copied()
            .unwrap_or(0);
        everywhere | here
    }

    pub fn change(&mut self, subjects: &[Subject], purpose: Option<&str>, set: u8, clear: u8) {
        let table = match purpose {
            None => &mut self.everywhere,
            Some(purpose) => self.purposes.entry(purpose.to_owned()).or_default(),
        };
        for subject in subjects {
            let bits = table.entry(*subject).or_default();
            *bits = (*bits | set) & !clear;
        }
    }

    pub fn clear(&mut self, subjects: &[Subject], clear: u8) {
        for table in self.purposes.values_mut().chain([&mut self.everywhere]) {
            for subject in subjects {
                if let Some(bits) = table.get_mut(subject) {
                    *bits &= !clear;
                }
            }
        }
    }
}
