//! The sections of a keystore, which a base and a change have in common.

use std::collections::BTreeMap;

use aegis_audit::{Head, Mark};
use uuid::Uuid;

use super::cursor::{Reader, Writer, count};
use super::record::{Entry, KeyRecord, Kind, KnownCopy, NamedHead, WRAPPED};
use crate::secret::Secret;

const LIVE: usize = 16 + 1 + 1 + 16 * 3 + WRAPPED + 32 + 8 + 8 + 2;
const TOMBSTONE: usize = 16 + 1 + 8;
const COPY: usize = 8 * 3 + 2;
const SECTIONS: usize = 8 + 32 + 8 + 8 + 4 * 4;
const HEAD: usize = 2 + 8 + 32;

/// What a base and a change have in common, about to be written.
pub(crate) struct Sections<'a> {
    pub audit: Mark,
    pub subjects: Vec<(&'a [u8; 16], &'a Secret<32>)>,
    pub entries: Vec<(&'a Uuid, &'a Entry)>,
    pub copies: Vec<&'a KnownCopy>,
    pub heads: Vec<(&'a String, &'a NamedHead)>,
}

impl Sections<'_> {
    pub fn size(&self) -> usize {
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

    pub fn write(&self, out: &mut Writer) {
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

/// Sections that were read.
pub(crate) struct Parsed {
    pub audit: Mark,
    pub subjects: BTreeMap<[u8; 16], Secret<32>>,
    pub entries: BTreeMap<Uuid, Entry>,
    pub copies: Vec<KnownCopy>,
    pub heads: BTreeMap<String, NamedHead>,
}

impl Reader<'_> {
    pub fn sections(&mut self, version: u16) -> Option<Parsed> {
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
        Some(Parsed {
            audit,
            subjects,
            entries,
            copies,
            heads,
        })
    }

    fn record(&mut self, object: Uuid) -> Option<KeyRecord> {
        Some(KeyRecord {
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
