//! The sections that a keystore's base and its changes have in common, written and read strictly.

use std::collections::BTreeMap;

use aegis_audit::{Head, Mark};
use aegis_memory::Pages;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::names::NAME_MAX;
use crate::format::record::{Delta, Entry, Kind, KnownCopy, NamedHead, Record, WRAPPED};
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

/// Fills memory that was sized before: nothing grows, so no copy of a key stays behind.
pub(crate) struct Writer {
    pub pages: Pages,
    pub at: usize,
}

impl Writer {
    pub fn new(size: usize) -> Result<Self> {
        let pages = Pages::new(size).map_err(VaultError::memory(size))?;
        Ok(Self { pages, at: 0 })
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.pages[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// At most [`NAME_MAX`] bytes, checked where the text comes in.
    pub fn text(&mut self, text: &str) {
        self.put(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.put(text.as_bytes());
    }
}

// A vault of 2^32 objects would need a keystore of 800 GB; the write fails long before.
fn count(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

/// Sections that were read.
pub(crate) struct Parsed {
    pub audit: Mark,
    pub delta: Delta,
}

/// `None` = malformed.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn secret(&mut self) -> Option<Secret<32>> {
        let (head, rest) = self.0.split_at_checked(32)?;
        self.0 = rest;
        Secret::from_slice(head).ok()
    }

    pub fn text(&mut self) -> Option<String> {
        let len = usize::from(u16::from_le_bytes(self.take()?));
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        if len > NAME_MAX {
            return None;
        }
        Some(std::str::from_utf8(head).ok()?.to_owned())
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub fn flag(&mut self) -> Option<bool> {
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
