//! The keystore body: subject keys and one record an object. Encrypted as a whole; strict fixed-size codec.
//!
//! ```text
//! u8 version = 1 | node secret 32 | u8 governed, bundle hash 32 | audit head: u64 records, hash 32
//! u32 n ‖ n × (subject id 16, subject key 32)                       sorted by id
//! u32 n ‖ n × (object id 16, u8 state, then by state                sorted by id
//!     1 live: u8 kind, key record 16, subject id 16, rows object 16 (zero = none), wrapped DEK 60,
//!             header MAC 32, u64 length, u64 created, u16 n ‖ current name n (none = the header's)
//!     2 shredded: u64 when)
//! u32 n ‖ n × (u64 when, u64 epoch, u64 generation, u16 n ‖ label n)  known copies of the keystore, oldest first
//! ```

use std::collections::BTreeMap;

use aegis_memory::Pages;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::keys::WRAPPED;
use crate::secret::Secret;

const LIVE: usize = 16 + 1 + 1 + 16 * 3 + WRAPPED + 32 + 8 + 8 + 2;
const TOMBSTONE: usize = 16 + 1 + 8;
const COPY: usize = 8 * 3 + 2;
const FIXED: usize = 1 + 32 + 33 + 40 + 4 + 4 + 4;
/// Longest current name and label of a copy, in bytes.
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

#[derive(Debug)]
pub(crate) enum Entry {
    Live(Box<Record>),
    Shredded { when: u64 },
}

/// The decrypted keystore.
pub(crate) struct Body {
    /// Random at creation; pseudonyms, MACs and sealed blobs derive from it and survive a ratchet.
    pub node: Secret<32>,
    /// Hash of the policy bundle that governs this vault.
    pub bundle: Option<[u8; 32]>,
    /// Audit log at the last change: number of records and hash. A shorter log is a rolled-back log.
    pub audit: (u64, [u8; 32]),
    pub subjects: BTreeMap<[u8; 16], Secret<32>>,
    pub entries: BTreeMap<Uuid, Entry>,
    pub copies: Vec<KnownCopy>,
}

impl Body {
    pub fn new() -> Result<Self> {
        Ok(Self {
            node: Secret::random()?,
            bundle: None,
            audit: (0, [0; 32]),
            subjects: BTreeMap::new(),
            entries: BTreeMap::new(),
            copies: Vec::new(),
        })
    }

    /// The live record of `object`, or why there is none.
    pub fn live(&self, object: Uuid) -> Result<&Record> {
        match self.entries.get(&object) {
            Some(Entry::Live(record)) => Ok(record),
            Some(Entry::Shredded { when }) => Err(VaultError::ObjectShredded {
                object,
                when: *when,
            }),
            None => Err(VaultError::ObjectNotFound { object }),
        }
    }

    /// Every live record, by id.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Live(record) => Some(&**record),
            Entry::Shredded { .. } => None,
        })
    }

    /// Turns a record into a tombstone and drops its subject key when nothing else needs it.
    pub fn shred(&mut self, object: Uuid, when: u64) {
        let Some(Entry::Live(record)) = self.entries.insert(object, Entry::Shredded { when })
        else {
            return;
        };
        let subject = record.subject;
        if !self.records().any(|other| other.subject == subject) {
            self.subjects.remove(&subject);
        }
    }

    /// # Errors
    /// No memory outside core dumps for it.
    pub fn encode(&self) -> Result<Pages> {
        let live: usize = self
            .records()
            .map(|record| LIVE + record.name.as_ref().map_or(0, String::len))
            .sum();
        let copies: usize = self.copies.iter().map(|copy| COPY + copy.label.len()).sum();
        let dead = self.entries.len() - self.records().count();
        let size = FIXED + self.subjects.len() * 48 + live + dead * TOMBSTONE + copies;
        let mut out = Writer::new(size)?;
        out.put(&[1]);
        out.put(self.node.expose());
        out.put(&[u8::from(self.bundle.is_some())]);
        out.put(&self.bundle.unwrap_or_default());
        out.put(&self.audit.0.to_le_bytes());
        out.put(&self.audit.1);
        out.put(&count(self.subjects.len()));
        for (id, key) in &self.subjects {
            out.put(id);
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
        debug_assert_eq!(out.at, size);
        Ok(out.pages)
    }

    /// Strict: known values, sorted ids, nothing after the end. The bytes are authenticated already.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let body = reader.body().filter(|_| reader.0.is_empty());
        body.ok_or_else(|| VaultError::KeystoreCorrupt {
            reason: "body encoding".to_owned(),
        })
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

    fn body(&mut self) -> Option<Body> {
        if self.take::<1>()? != [1] {
            return None;
        }
        let node = self.secret()?;
        let governed = self.flag()?;
        let bundle = self.take::<32>()?;
        // One encoding a value: what is not used is zero.
        if !governed && bundle != [0; 32] {
            return None;
        }
        let bundle = Some(bundle).filter(|_| governed);
        let audit = (self.u64()?, self.take()?);
        let mut subjects = BTreeMap::new();
        for _ in 0..u32::from_le_bytes(self.take()?) {
            let id = self.take::<16>()?;
            if subjects
                .last_key_value()
                .is_some_and(|(last, _)| *last >= id)
            {
                return None;
            }
            subjects.insert(id, self.secret()?);
        }
        let mut entries = BTreeMap::new();
        for _ in 0..u32::from_le_bytes(self.take()?) {
            let id = Uuid::from_bytes(self.take()?);
            if entries
                .last_key_value()
                .is_some_and(|(last, _)| *last >= id)
            {
                return None;
            }
            let entry = match self.take::<1>()? {
                [1] => Entry::Live(Box::new(self.record(id)?)),
                [2] => Entry::Shredded { when: self.u64()? },
                _ => return None,
            };
            entries.insert(id, entry);
        }
        let mut copies = Vec::new();
        for _ in 0..u32::from_le_bytes(self.take()?) {
            copies.push(KnownCopy {
                when: self.u64()?,
                epoch: self.u64()?,
                generation: self.u64()?,
                label: self.text()?,
            });
        }
        Some(Body {
            node,
            bundle,
            audit,
            subjects,
            entries,
            copies,
        })
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

    fn sample() -> Body {
        let mut body = Body::new().unwrap();
        body.bundle = Some([3; 32]);
        body.subjects.insert([1; 16], Secret::random().unwrap());
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
            body.entries
                .insert(record.object, Entry::Live(Box::new(record)));
        }
        body.shred(Uuid::from_u128(3), 11);
        body.copies.push(KnownCopy {
            when: 1,
            epoch: 2,
            generation: 3,
            label: "usb stick".into(),
        });
        body
    }

    #[test]
    fn the_body_round_trips() {
        let bytes = sample().encode().unwrap();
        assert_eq!(*Body::decode(&bytes).unwrap().encode().unwrap(), *bytes);
    }

    #[test]
    fn every_truncation_and_any_trailing_byte_is_refused() {
        let bytes = sample().encode().unwrap();
        for len in 0..bytes.len() {
            assert!(Body::decode(&bytes[..len]).is_err(), "length {len}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Body::decode(&longer).is_err());
    }

    #[test]
    fn the_last_shred_of_a_subject_drops_its_key() {
        let mut body = sample();
        body.shred(Uuid::from_u128(1), 1);
        assert_eq!(body.subjects.len(), 1);
        body.shred(Uuid::from_u128(2), 1);
        assert!(body.subjects.is_empty());
    }
}
