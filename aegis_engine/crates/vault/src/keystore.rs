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

use std::collections::{BTreeMap, HashMap};

use aegis_audit::{Head, Mark};
use aegis_memory::Pages;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::keys::WRAPPED;
use crate::names;
use crate::secret::Secret;

const LIVE: usize = 16 + 1 + 1 + 16 * 3 + WRAPPED + 32 + 8 + 8 + 2;
const TOMBSTONE: usize = 16 + 1 + 8;
const COPY: usize = 8 * 3 + 2;
/// Before the sections.
const FRONT: usize = 1 + 32 + 33;
const SECTIONS: usize = 8 + 32 + 8 + 8 + 4 * 4;
const HEAD: usize = 2 + 8 + 32;
/// Longest current name, label of a copy and name of a head, in bytes.
pub(crate) const NAME_MAX: usize = 1024;

/// What an object holds. Set by the vault, not by the caller: governance rows open without a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Rows,
}

/// The key record of a live object.
#[allow(clippy::struct_field_names)] // "key record id" is the name in the format
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub object: Uuid,
    pub kind: Kind,
    pub key_record: Uuid,
    pub subject: [u8; 16],
    /// The governance rows of a dataset.
    pub rows: Option<Uuid>,
    pub wrapped: [u8; WRAPPED],
    /// Says which version of the file is current.
    pub header_mac: [u8; 32],
    pub length: u64,
    pub created: u64,
    /// After a rename; the header keeps the name given at store.
    pub name: Option<String>,
}

/// A backup of the keystore that shredding does not reach.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KnownCopy {
    /// Seconds since 1970.
    pub when: u64,
    /// Epoch of the copied keystore.
    pub epoch: u64,
    /// Generation of the copied keystore.
    pub generation: u64,
    /// Where it was written.
    pub label: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Live(Box<Record>),
    Shredded { when: u64 },
}

/// How far something outside the keystore has come: a log, a ledger. Putting back an older one is then found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedHead {
    /// Its number of records.
    pub count: u64,
    /// A hash or MAC of what they are.
    pub mac: [u8; 32],
}

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
    /// Live data objects a name, by [`names::slot`].
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

    /// Strict, as [`Body::decode`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, Mark)> {
        let mut reader = Reader(bytes);
        let parsed = reader
            .sections(2)
            .filter(|parsed| reader.0.is_empty() && parsed.delta.is_additive());
        parsed
            .map(|Parsed { audit, delta }| (delta, audit))
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
    pub fn live(&self, object: Uuid) -> Result<&Record> {
        live(self.entries.get(&object), object)
    }

    /// Every live record, by id.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
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
        self.names.contains_key(&names::slot(name))
    }

    /// Live data objects whose name the keystore does not know.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }

    fn name(&mut self, record: &Record, gone: bool) {
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
        let slot = names::slot(name);
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

/// The live record behind `entry`, or why there is none.
pub(crate) fn live(entry: Option<&Entry>, object: Uuid) -> Result<&Record> {
    match entry {
        Some(Entry::Live(record)) => Ok(record),
        Some(Entry::Shredded { when }) => Err(VaultError::ObjectShredded {
            object,
            when: *when,
        }),
        None => Err(VaultError::ObjectNotFound { object }),
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

/// What a base and a change have in common, about to be written.
struct Sections<'a> {
    audit: Mark,
    subjects: Vec<(&'a [u8; 16], &'a Secret<32>)>,
    entries: Vec<(&'a Uuid, &'a Entry)>,
    copies: Vec<&'a KnownCopy>,
    heads: Vec<(&'a String, &'a NamedHead)>,
}

impl Sections<'_> {
    fn size(&self) -> usize {
        let entries: usize = self
            .entries
            .iter()
            .map(|(_, entry)| match entry {
                Entry::Live(record) => LIVE + record.name.as_ref().map_or(0, String::len),
                Entry::Shredded { .. } => TOMBSTONE,
            })
            .sum();
        let copies: usize = self.copies.iter().map(|copy| COPY + copy.label.len()).sum();
        let heads: usize = self.heads.iter().map(|(name, _)| HEAD + name.len()).sum();
        SECTIONS + self.subjects.len() * 48 + entries + copies + heads
    }

    fn write(&self, out: &mut Writer) {
        out.put(&self.audit.head.seq.to_le_bytes());
        out.put(&self.audit.head.hash);
        out.put(&self.audit.last.to_le_bytes());
        out.put(&self.audit.end.to_le_bytes());
        out.put(&count(self.subjects.len()));
        for (id, key) in &self.subjects {
            out.put(*id);
            out.put(key.expose());
        }
        out.put(&count(self.entries.len()));
        for (id, entry) in &self.entries {
            out.put(id.as_bytes());
            match entry {
                Entry::Live(record) => {
                    out.put(&[1, u8::from(record.kind == Kind::Rows)]);
                    out.put(record.key_record.as_bytes());
                    out.put(&record.subject);
                    out.put(record.rows.unwrap_or_default().as_bytes());
                    out.put(&record.wrapped);
                    out.put(&record.header_mac);
                    out.put(&record.length.to_le_bytes());
                    out.put(&record.created.to_le_bytes());
                    out.text(record.name.as_deref().unwrap_or_default());
                }
                Entry::Shredded { when } => {
                    out.put(&[2]);
                    out.put(&when.to_le_bytes());
                }
            }
        }
        out.put(&count(self.copies.len()));
        for copy in &self.copies {
            for value in [copy.when, copy.epoch, copy.generation] {
                out.put(&value.to_le_bytes());
            }
            out.text(&copy.label);
        }
        out.put(&count(self.heads.len()));
        for (name, head) in &self.heads {
            out.text(name);
            out.put(&head.count.to_le_bytes());
            out.put(&head.mac);
        }
    }
}

/// Fills memory that was sized before: nothing grows, so no copy of a key stays behind.
struct Writer {
    pages: Pages,
    at: usize,
}

impl Writer {
    fn new(size: usize) -> Result<Self> {
        let pages = Pages::new(size).map_err(VaultError::memory(size))?;
        Ok(Self { pages, at: 0 })
    }

    fn put(&mut self, bytes: &[u8]) {
        self.pages[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// At most [`NAME_MAX`] bytes, checked where the text comes in.
    fn text(&mut self, text: &str) {
        self.put(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.put(text.as_bytes());
    }
}

// A vault of 2^32 objects would need a keystore of 800 GB; the write fails long before.
fn count(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

/// Sections that were read.
struct Parsed {
    audit: Mark,
    delta: Delta,
}

/// `None` = malformed.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn secret(&mut self) -> Option<Secret<32>> {
        let (head, rest) = self.0.split_at_checked(32)?;
        self.0 = rest;
        Secret::from_slice(head).ok()
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::from(u16::from_le_bytes(self.take()?));
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        if len > NAME_MAX {
            return None;
        }
        Some(std::str::from_utf8(head).ok()?.to_owned())
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// As many as the next number says, `next` each, with ascending keys.
    fn ascending<K: Ord, V>(
        &mut self,
        mut next: impl FnMut(&mut Self) -> Option<(K, V)>,
    ) -> Option<BTreeMap<K, V>> {
        let mut map = BTreeMap::new();
        for _ in 0..u32::from_le_bytes(self.take()?) {
            let (key, value) = next(self)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return None;
            }
            map.insert(key, value);
        }
        Some(map)
    }

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
        let Parsed { audit, delta } = self.sections(version)?;
        let mut body = Body {
            node,
            bundle: Some(bundle).filter(|_| governed),
            audit,
            subjects: delta.subjects,
            entries: delta.entries,
            copies: delta.copies,
            heads: delta.heads,
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
                Some(name) => *taken.entry(names::slot(name)).or_default() += 1,
                None => unnamed += 1,
            }
        }
        (body.uses, body.names, body.unnamed) = (uses, taken, unnamed);
        Some(body)
    }

    fn sections(&mut self, version: u16) -> Option<Parsed> {
        let head = Head {
            seq: self.u64()?,
            hash: self.take()?,
        };
        let mut audit = Mark::unplaced(head);
        if version > 1 {
            (audit.last, audit.end) = (self.u64()?, self.u64()?);
            if audit.last > audit.end {
                return None;
            }
        }
        let subjects = self.ascending(|it| Some((it.take::<16>()?, it.secret()?)))?;
        let entries = self.ascending(|it| {
            let id = Uuid::from_bytes(it.take()?);
            let entry = match it.take::<1>()? {
                [1] => Entry::Live(Box::new(it.record(id)?)),
                [2] => Entry::Shredded { when: it.u64()? },
                _ => return None,
            };
            Some((id, entry))
        })?;
        let mut copies = Vec::new();
        for _ in 0..u32::from_le_bytes(self.take()?) {
            copies.push(KnownCopy {
                when: self.u64()?,
                epoch: self.u64()?,
                generation: self.u64()?,
                label: self.text()?,
            });
        }
        let heads = if version > 1 {
            self.ascending(|it| {
                let name = it.text()?;
                let head = NamedHead {
                    count: it.u64()?,
                    mac: it.take()?,
                };
                Some((name, head))
            })?
        } else {
            BTreeMap::new()
        };
        let delta = Delta {
            bundle: None,
            subjects,
            entries,
            copies,
            heads,
        };
        Some(Parsed { audit, delta })
    }

    fn record(&mut self, object: Uuid) -> Option<Record> {
        Some(Record {
            object,
            kind: if self.flag()? { Kind::Rows } else { Kind::Data },
            key_record: Uuid::from_bytes(self.take()?),
            subject: self.take()?,
            rows: Some(Uuid::from_bytes(self.take()?)).filter(|id| !id.is_nil()),
            wrapped: self.take()?,
            header_mac: self.take()?,
            length: self.u64()?,
            created: self.u64()?,
            name: Some(self.text()?).filter(|name| !name.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark {
            head: Head { seq, hash: [9; 32] },
            last: 64,
            end: 200,
        }
    }

    fn encode(body: &Body) -> Pages {
        body.encode(&Delta::default(), &body.audit).unwrap()
    }

    fn shred(body: &mut Body, id: u128) -> Pages {
        let mut delta = Delta::default();
        delta
            .entries
            .insert(Uuid::from_u128(id), Entry::Shredded { when: 1 });
        let merged = body.encode(&delta, &mark(6)).unwrap();
        body.apply(delta, mark(6));
        merged
    }

    fn sample() -> Body {
        let mut body = Body::new().unwrap();
        let mut delta = Delta {
            bundle: Some([3; 32]),
            ..Delta::default()
        };
        delta.subjects.insert([1; 16], Secret::random().unwrap());
        for n in 1..4 {
            let record = Record {
                object: Uuid::from_u128(n),
                kind: Kind::Data,
                key_record: Uuid::new_v4(),
                subject: [1; 16],
                rows: (n == 2).then(|| Uuid::from_u128(9)),
                wrapped: [5; WRAPPED],
                header_mac: [6; 32],
                length: 7,
                created: 8,
                name: (n == 1).then(|| "new.csv".to_owned()),
            };
            delta
                .entries
                .insert(record.object, Entry::Live(Box::new(record)));
        }
        delta
            .entries
            .insert(Uuid::from_u128(3), Entry::Shredded { when: 11 });
        delta.copies.push(KnownCopy {
            when: 1,
            epoch: 2,
            generation: 3,
            label: "usb stick".into(),
        });
        let head = NamedHead {
            count: 7,
            mac: [8; 32],
        };
        delta.heads.insert("consent".into(), head);
        body.apply(delta, mark(5));
        body
    }

    #[test]
    fn the_body_round_trips() {
        let bytes = encode(&sample());
        assert_eq!(*encode(&Body::decode(&bytes, 2).unwrap()), *bytes);
    }

    #[test]
    fn every_truncation_and_any_trailing_byte_is_refused() {
        let bytes = encode(&sample());
        for len in 0..bytes.len() {
            assert!(Body::decode(&bytes[..len], 2).is_err(), "length {len}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Body::decode(&longer, 2).is_err());
    }

    #[test]
    fn the_last_shred_of_a_subject_drops_its_key() {
        let mut body = sample();
        shred(&mut body, 1);
        assert_eq!(body.subjects.len(), 1);
        shred(&mut body, 2);
        assert!(body.subjects.is_empty());
    }

    #[test]
    fn a_body_with_a_change_is_encoded_as_it_is_after_it() {
        for id in [1, 2, 3, 4] {
            let mut body = sample();
            let merged = shred(&mut body, id);
            assert_eq!(*merged, *encode(&body), "{id}");
            let merged = shred(&mut body, 2);
            assert_eq!(*merged, *encode(&body), "{id}, then 2");
        }
    }

    #[test]
    fn a_key_that_a_new_object_needs_does_not_go_with_the_old_one() {
        for (old, new) in [(1, 9), (9, 1)] {
            let mut body = sample();
            shred(&mut body, 2);
            if old == 9 {
                let record = body.live(Uuid::from_u128(1)).unwrap().clone();
                let mut delta = Delta::default();
                let entry = Entry::Live(Box::new(record));
                delta.entries.insert(Uuid::from_u128(9), entry);
                body.apply(delta, mark(7));
                shred(&mut body, 1);
            }
            let record = body.live(Uuid::from_u128(old)).unwrap().clone();
            let mut delta = Delta::default();
            let entry = Entry::Live(Box::new(record));
            delta.entries.insert(Uuid::from_u128(new), entry);
            let tombstone = Entry::Shredded { when: 1 };
            delta.entries.insert(Uuid::from_u128(old), tombstone);
            let merged = body.encode(&delta, &mark(8)).unwrap();
            body.apply(delta, mark(8));
            assert_eq!(body.subjects.len(), 1, "{old} to {new}");
            assert_eq!(*merged, *encode(&body));
        }
    }

    #[test]
    fn a_change_round_trips_and_shreds_nothing() {
        let delta = Delta {
            entries: [(Uuid::from_u128(3), Entry::Shredded { when: 11 })].into(),
            ..Delta::default()
        };
        let bytes = delta.encode(&mark(1)).unwrap();
        assert!(Delta::decode(&bytes).is_err());
        let head = NamedHead {
            count: 7,
            mac: [8; 32],
        };
        let delta = Delta {
            heads: [("a".to_owned(), head), ("b".to_owned(), head)].into(),
            subjects: [([1; 16], Secret::random().unwrap())].into(),
            ..Delta::default()
        };
        let bytes = delta.encode(&mark(1)).unwrap();
        let (again, audit) = Delta::decode(&bytes).unwrap();
        assert_eq!(*again.encode(&audit).unwrap(), *bytes);
        for len in 0..bytes.len() {
            assert!(Delta::decode(&bytes[..len]).is_err(), "length {len}");
        }
    }
}
