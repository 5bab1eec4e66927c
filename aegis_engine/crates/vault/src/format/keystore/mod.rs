//! The keystore body: subject keys and one record an object, and what a commit changes of it. Strict fixed-size codec.
//!
//! ```text
//! u8 version = 2 | node secret 32 | u8 governed, bundle hash 32 | sections
//! sections:
//! audit log: u64 records, hash 32, u64 where the last record starts, u64 end of the file (0 = not known)
//! u32 n ‖ n × (subject id 16, subject key 32)                       sorted by id
//! u32 n ‖ n × (object id 16, u8 state, then by state                sorted by id
//!     1 live: u8 kind, key record 16, subject id 16, rows object 16 (zero = none), wrapped DEK 60,
//!             header MAC 32, u64 length, u64 created, u16 n ‖ current name n (none = the header's)
//!     2 shredded: u64 when)
//! u32 n ‖ n × (u64 when, u64 epoch, u64 generation, u16 n ‖ label n)  known copies of the keystore, oldest first
//! u32 n ‖ n × (u16 n ‖ name n, u64 count, MAC 32)                     heads, sorted by name
//! ```
//! A change (`changes.rs`) is sections alone, and shreds nothing: a shred writes a new base. Version 1 has no heads and no
//! places in the audit log; it is read, and written anew as version 2 at the next commit.

mod cursor;
mod record;
#[cfg(any(test, feature = "fuzzing"))]
mod sample;
mod sections;

use std::collections::{BTreeMap, HashMap};

use aegis_audit::{Head, Mark};
use aegis_memory::Pages;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::name;
use crate::secret::Secret;

use cursor::{Reader, Writer};
use sections::{Parsed, Sections};

pub(crate) use record::{Entry, KeyRecord, Kind, WRAPPED, live};
pub use record::{KnownCopy, NamedHead};

/// Before the sections.
const FRONT: usize = 1 + 32 + 33;

/// The decrypted keystore.
pub(crate) struct Body {
    /// Random at creation; pseudonyms, MACs and sealed blobs derive from it and survive a ratchet.
    pub node: Secret<32>,
    /// Hash of the policy bundle that governs this vault.
    pub bundle: Option<[u8; 32]>,
    /// Audit log at the last change. A shorter log is a rolled-back log.
    pub audit: Mark,
    pub subjects: BTreeMap<[u8; 16], Secret<32>>,
    pub entries: BTreeMap<Uuid, Entry>,
    pub copies: Vec<KnownCopy>,
    pub heads: BTreeMap<String, NamedHead>,
    /// Live objects a subject; the key of a subject goes with the last of them.
    uses: HashMap<[u8; 16], u32>,
    /// Live data objects a name, by [`name::slot`].
    names: HashMap<u64, u32>,
    /// Live data objects whose name only their header has.
    unnamed: u64,
}

/// What one commit changes. Applying it is a pure insertion; keys that nobody needs any more go by themselves.
#[derive(Default)]
pub(crate) struct Delta {
    /// Only in a new base.
    pub bundle: Option<[u8; 32]>,
    /// New subjects.
    pub subjects: BTreeMap<[u8; 16], Secret<32>>,
    /// Objects that are new, have another name, or (only in a new base) are shredded.
    pub entries: BTreeMap<Uuid, Entry>,
    /// Copies to be known from now on.
    pub copies: Vec<KnownCopy>,
    /// Heads that moved.
    pub heads: BTreeMap<String, NamedHead>,
}

impl Delta {
    /// Whether it can be a change behind a base: a key that is shredded must not stay in the base before.
    pub fn is_additive(&self) -> bool {
        self.bundle.is_none()
            && self
                .entries
                .values()
                .all(|entry| matches!(entry, Entry::Live(_)))
    }

    /// The sections of a change.
    ///
    /// # Errors
    /// No memory outside core dumps for it.
    pub fn encode(&self, audit: &Mark) -> Result<Pages> {
        let sections = self.sections(audit);
        let mut out = Writer::new(sections.size())?;
        sections.write(&mut out);
        debug_assert_eq!(out.at, out.pages.len());
        Ok(out.pages)
    }

    fn sections(&self, audit: &Mark) -> Sections<'_> {
        Sections {
            audit: *audit,
            subjects: self.subjects.iter().collect(),
            entries: self.entries.iter().collect(),
            copies: self.copies.iter().collect(),
            heads: self.heads.iter().collect(),
        }
    }

    fn of(parsed: Parsed) -> (Self, Mark) {
        let Parsed {
            audit,
            subjects,
            entries,
            copies,
            heads,
        } = parsed;
        let delta = Self {
            bundle: None,
            subjects,
            entries,
            copies,
            heads,
        };
        (delta, audit)
    }

    /// Strict, as [`Body::decode`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, Mark)> {
        let mut reader = Reader(bytes);
        let parsed = reader.sections(2).filter(|parsed| {
            reader.0.is_empty()
                && parsed
                    .entries
                    .values()
                    .all(|entry| matches!(entry, Entry::Live(_)))
        });
        parsed
            .map(Delta::of)
            .ok_or_else(|| VaultError::KeystoreCorrupt {
                reason: "the encoding of a change".to_owned(),
            })
    }
}

impl Body {
    pub fn new() -> Result<Self> {
        Ok(Self {
            node: Secret::random()?,
            bundle: None,
            audit: Mark::unplaced(Head {
                seq: 0,
                hash: [0; 32],
            }),
            subjects: BTreeMap::new(),
            entries: BTreeMap::new(),
            copies: Vec::new(),
            heads: BTreeMap::new(),
            uses: HashMap::new(),
            names: HashMap::new(),
            unnamed: 0,
        })
    }

    /// The live record of `object`, or why there is none.
    pub fn live(&self, object: Uuid) -> Result<&KeyRecord> {
        live(self.entries.get(&object), object)
    }

    /// Every live record, by id.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Live(record) => Some(&**record),
            Entry::Shredded { .. } => None,
        })
    }

    /// Takes in what a commit changed.
    pub fn apply(&mut self, delta: Delta, audit: Mark) {
        self.audit = audit;
        if delta.bundle.is_some() {
            self.bundle = delta.bundle;
        }
        self.subjects.extend(delta.subjects);
        // First what is new: a key that the new objects need must not go with the old ones.
        let (live, gone): (Vec<_>, Vec<_>) = delta
            .entries
            .into_iter()
            .partition(|(_, entry)| matches!(entry, Entry::Live(_)));
        for (id, entry) in live.into_iter().chain(gone) {
            self.put(id, entry);
        }
        self.copies.extend(delta.copies);
        self.heads.extend(delta.heads);
    }

    /// Whether a live data object may have that name; false is certain.
    pub fn may_have(&self, name: &str) -> bool {
        self.names.contains_key(&name::slot(name))
    }

    /// Live data objects whose name the keystore does not know.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }

    fn name(&mut self, record: &KeyRecord, gone: bool) {
        if record.kind != Kind::Data {
            return;
        }
        let Some(name) = &record.name else {
            self.unnamed = if gone {
                self.unnamed - 1
            } else {
                self.unnamed + 1
            };
            return;
        };
        let slot = name::slot(name);
        let count = self.names.entry(slot).or_default();
        *count = if gone { *count - 1 } else { *count + 1 };
        if *count == 0 {
            self.names.remove(&slot);
        }
    }

    fn put(&mut self, id: Uuid, entry: Entry) {
        if let Entry::Live(record) = &entry {
            *self.uses.entry(record.subject).or_default() += 1;
            self.name(record, false);
        }
        let Some(Entry::Live(old)) = self.entries.insert(id, entry) else {
            return;
        };
        self.name(&old, true);
        if let Some(uses) = self.uses.get_mut(&old.subject) {
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&old.subject);
                self.subjects.remove(&old.subject);
            }
        }
    }

    /// The body with `delta`, as a base.
    ///
    /// # Errors
    /// No memory outside core dumps for it.
    pub fn encode(&self, delta: &Delta, audit: &Mark) -> Result<Pages> {
        let sections = self.merged(delta, audit);
        let mut out = Writer::new(FRONT + sections.size())?;
        let bundle = delta.bundle.or(self.bundle);
        out.put(&[2]);
        out.put(self.node.expose());
        out.put(&[u8::from(bundle.is_some())]);
        out.put(&bundle.unwrap_or_default());
        sections.write(&mut out);
        debug_assert_eq!(out.at, out.pages.len());
        Ok(out.pages)
    }

    fn merged<'a>(&'a self, delta: &'a Delta, audit: &Mark) -> Sections<'a> {
        let mut uses: HashMap<[u8; 16], i64> = HashMap::new();
        for (id, entry) in &delta.entries {
            if let Entry::Live(record) = entry {
                *uses.entry(record.subject).or_default() += 1;
            }
            if let Some(Entry::Live(record)) = self.entries.get(id) {
                *uses.entry(record.subject).or_default() -= 1;
            }
        }
        let needed = |subject: &[u8; 16]| {
            uses.get(subject).is_none_or(|change| {
                let before = self.uses.get(subject).copied().unwrap_or(0);
                i64::from(before) + change > 0
            })
        };
        Sections {
            audit: *audit,
            subjects: merge(&self.subjects, &delta.subjects)
                .filter(|(subject, _)| needed(subject))
                .collect(),
            entries: merge(&self.entries, &delta.entries).collect(),
            copies: self.copies.iter().chain(&delta.copies).collect(),
            heads: merge(&self.heads, &delta.heads).collect(),
        }
    }

    /// Strict: known values, sorted ids, nothing after the end. The bytes are authenticated already.
    pub fn decode(bytes: &[u8], version: u16) -> Result<Self> {
        let mut reader = Reader(bytes);
        let body = reader.body(version).filter(|_| reader.0.is_empty());
        body.ok_or_else(|| VaultError::KeystoreCorrupt {
            reason: "body encoding".to_owned(),
        })
    }
}

/// Both, by key; what `over` has takes the place of what `under` has.
pub(crate) fn merge<'a, K: Ord, V>(
    under: &'a BTreeMap<K, V>,
    over: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let (mut under, mut over) = (under.iter().peekable(), over.iter().peekable());
    std::iter::from_fn(move || match (under.peek(), over.peek()) {
        (Some((low, _)), Some((high, _))) => match low.cmp(high) {
            std::cmp::Ordering::Less => under.next(),
            std::cmp::Ordering::Greater => over.next(),
            std::cmp::Ordering::Equal => {
                under.next();
                over.next()
            }
        },
        (Some(_), None) => under.next(),
        (None, _) => over.next(),
    })
}

impl Reader<'_> {
    fn body(&mut self, version: u16) -> Option<Body> {
        if self.take::<1>()?.map(u16::from) != [version] {
            return None;
        }
        let node = self.secret()?;
        let governed = self.flag()?;
        let bundle = self.take::<32>()?;
        // One encoding a value: what is not used is zero.
        if !governed && bundle != [0; 32] {
            return None;
        }
        let parsed = self.sections(version)?;
        let mut body = Body {
            node,
            bundle: Some(bundle).filter(|_| governed),
            audit: parsed.audit,
            subjects: parsed.subjects,
            entries: parsed.entries,
            copies: parsed.copies,
            heads: parsed.heads,
            uses: HashMap::new(),
            names: HashMap::new(),
            unnamed: 0,
        };
        let many = body.entries.len();
        let (mut uses, mut taken, mut unnamed) = (
            HashMap::with_capacity(many),
            HashMap::with_capacity(many),
            0,
        );
        for record in body.records() {
            *uses.entry(record.subject).or_default() += 1;
            match &record.name {
                _ if record.kind != Kind::Data => {}
                Some(name) => *taken.entry(name::slot(name)).or_default() += 1,
                None => unnamed += 1,
            }
        }
        (body.uses, body.names, body.unnamed) = (uses, taken, unnamed);
        Some(body)
    }
}

#[cfg(test)]
mod tests;
