//! Writing and reading the fields of a keystore, strictly and without a copy of a key left behind.

use std::collections::BTreeMap;

use aegis_memory::Pages;

use crate::error::{Result, VaultError};
use crate::format::name::NAME_MAX;
use crate::secret::Secret;

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
pub(crate) fn count(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
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
    pub fn ascending<K: Ord, V>(
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
}
