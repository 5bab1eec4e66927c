//! The keystore body: subject keys and one record an object. Encrypted as a whole; strict fixed-size codec.
//!
//! ```text
//! u8 version = 1 | node secret 32 | u8 governed, bundle hash 32 | audit head: u64 records, hash 32
//! u32 n ‖ n × (subject id 16, subject key 32)                       sorted by id
//! u32 n ‖ n × (object id 16, u8 state, then by state                sorted by id
//!     1 live: u8 kind, key record 16, subject id 16, rows object 16 (zero = none), wrapped DEK 60,
//!             header MAC 32, u64 length, u64 created
//!     2 shredded: u64 when)
//! ```

use std::collections::BTreeMap;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
use crate::keys::WRAPPED;
use crate::secret::Secret;

const LIVE: usize = 16 + 1 + 1 + 16 * 3 + WRAPPED + 32 + 8 + 8;
const TOMBSTONE: usize = 16 + 1 + 8;
const FIXED: usize = 1 + 32 + 33 + 40 + 4 + 4;

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
}

impl Body {
    pub fn new() -> Result<Self> {
        Ok(Self {
            node: Secret::random()?,
            bundle: None,
            audit: (0, [0; 32]),
            subjects: BTreeMap::new(),
            entries: BTreeMap::new(),
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

    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let live = self.records().count();
        let size = FIXED
            + self.subjects.len() * 48
            + live * LIVE
            + (self.entries.len() - live) * TOMBSTONE;
        // Exactly sized, so that no reallocation leaves keys behind; room for the tag that follows.
        let mut out = Zeroizing::new(Vec::with_capacity(size + 16));
        out.push(1);
        out.extend_from_slice(self.node.expose());
        out.push(u8::from(self.bundle.is_some()));
        out.extend_from_slice(&self.bundle.unwrap_or_default());
        out.extend_from_slice(&self.audit.0.to_le_bytes());
        out.extend_from_slice(&self.audit.1);
        out.extend_from_slice(&count(self.subjects.len()));
        for (id, key) in &self.subjects {
            out.extend_from_slice(id);
            out.extend_from_slice(key.expose());
        }
        out.extend_from_slice(&count(self.entries.len()));
        for (id, entry) in &self.entries {
            out.extend_from_slice(id.as_bytes());
            match entry {
                Entry::Live(record) => {
                    out.push(1);
                    out.push(u8::from(record.kind == Kind::Rows));
                    out.extend_from_slice(record.key_record.as_bytes());
                    out.extend_from_slice(&record.subject);
                    out.extend_from_slice(record.rows.unwrap_or_default().as_bytes());
                    out.extend_from_slice(&record.wrapped);
                    out.extend_from_slice(&record.header_mac);
                    out.extend_from_slice(&record.length.to_le_bytes());
                    out.extend_from_slice(&record.created.to_le_bytes());
                }
                Entry::Shredded { when } => {
                    out.push(2);
                    out.extend_from_slice(&when.to_le_bytes());
                }
            }
        }
        debug_assert_eq!(out.len(), size);
        out
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
        let bundle = Some(self.take::<32>()?).filter(|_| governed);
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
        Some(Body {
            node,
            bundle,
            audit,
            subjects,
            entries,
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
            };
            body.entries
                .insert(record.object, Entry::Live(Box::new(record)));
        }
        body.shred(Uuid::from_u128(3), 11);
        body
    }

    #[test]
    fn the_body_round_trips() {
        let bytes = sample().encode();
        assert_eq!(*Body::decode(&bytes).unwrap().encode(), *bytes);
    }

    #[test]
    fn every_truncation_and_any_trailing_byte_is_refused() {
        let bytes = sample().encode();
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
