//! A set of row numbers.

use std::fmt;
use std::sync::Arc;

use crate::digest::sha256;

/// An immutable set of row numbers. Cloning is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct RowSet {
    inner: Arc<Inner>,
}

#[derive(PartialEq, Eq)]
struct Inner {
    /// Sorted, without duplicates.
    rows: Vec<u32>,
    /// One bit a row; empty when the set is so sparse that the bitmap would outweigh the rows.
    bits: Vec<u64>,
}

impl FromIterator<u32> for RowSet {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Self {
        let mut rows: Vec<u32> = rows.into_iter().collect();
        if !rows.is_sorted_by(|a, b| a < b) {
            rows.sort_unstable();
            rows.dedup();
        }
        let words = rows.last().map_or(0, |last| *last as usize / 64 + 1);
        let mut bits = Vec::new();
        if words <= 4 * rows.len() + 1024 {
            bits.resize(words, 0_u64);
            for row in &rows {
                bits[*row as usize / 64] |= 1 << (row % 64);
            }
        }
        Self {
            inner: Arc::new(Inner { rows, bits }),
        }
    }
}

impl RowSet {
    /// Whether the row is in the set.
    pub fn contains(&self, row: u32) -> bool {
        if self.inner.bits.is_empty() {
            return self.inner.rows.binary_search(&row).is_ok();
        }
        self.inner
            .bits
            .get(row as usize / 64)
            .is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.inner.rows.len() as u64
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.inner.rows.is_empty()
    }

    /// Row numbers, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + DoubleEndedIterator + '_ {
        self.inner.rows.iter().copied()
    }

    /// Row numbers, ascending, as a slice.
    pub fn as_slice(&self) -> &[u32] {
        &self.inner.rows
    }

    /// The `k`-th row, counted from 0. Constant time.
    pub fn nth(&self, k: u64) -> Option<u32> {
        self.inner.rows.get(usize::try_from(k).ok()?).copied()
    }

    /// SHA-256 of `"aegis row set 1"` and the row numbers as u32 LE, each part behind its length as u64 LE.
    /// The audit record holds it, so that the rows of a decision can be proved later.
    pub fn hash(&self) -> [u8; 32] {
        let bytes: Vec<u8> = self
            .inner
            .rows
            .iter()
            .flat_map(|row| row.to_le_bytes())
            .collect();
        sha256(&[b"aegis row set 1", &bytes])
    }
}

impl fmt::Debug for RowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowSet({} rows)", self.len())
    }
}
