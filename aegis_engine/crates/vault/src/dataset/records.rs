//! Reading records: only the permitted columns of only the permitted rows leave the vault.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_memory::Pages;
use aegis_policy::{Permit, PermitError, RowSet, Scope};
use uuid::Uuid;
use zeroize::Zeroize;

use crate::error::{Result, VaultError};
use crate::format::chunk::GcmKey;
use crate::format::schema::{Column, RecordSchema};
use crate::object::bulk;
use crate::object::cache::ChunkCache;
use crate::object::reader::{OpenObject, Opened};
use crate::vault::Vault;

/// Caches kept for threads that read at the same time.
const CACHES: usize = 4;

/// Reads rows of a dataset under a permit. `Send + Sync`.
///
/// # Guarantees
/// - Every call redeems the permit again: expiry, consent ledger, vault, object, governing bundle.
/// - Whole chunks are decrypted only into memory of the engine that is cleared; permitted bytes are copied out.
pub struct RecordReader {
    unlocked: OpenObject,
    stride: u64,
    columns: Vec<Column>,
    /// Byte ranges of a record, in output order.
    segments: Vec<Range<usize>>,
    record_len: usize,
    rows: RowSet,
    /// One a thread that reads at the same time.
    caches: Mutex<Vec<Cache>>,
}

/// What one thread reads with.
struct Cache {
    sealed: Pages,
    chunks: ChunkCache,
}

impl Vault {
    /// Opens a dataset under a permit: its rows and columns, in the permit's order. The owner's permit (on a vault
    /// without a bundle) opens all rows and columns.
    pub fn records(&self, permit: &Arc<Permit>, object: Uuid) -> Result<RecordReader> {
        let unlocked = OpenObject::open(&self.inner, permit, object)?;
        let dataset = self.dataset(object)?;
        let schema = dataset.records()?;
        let scope = |what: String| PermitError::Scope {
            permit: permit.id(),
            what,
        };
        let (rows, names) = match permit.scope() {
            Scope::Whole => (
                (0..dataset.rows).collect(),
                schema.columns.iter().map(|c| &c.name).collect(),
            ),
            Scope::Rows { rows, columns } => (rows.clone(), columns.iter().collect::<Vec<_>>()),
        };
        if rows
            .iter()
            .next_back()
            .is_some_and(|last| last >= dataset.rows)
        {
            return Err(scope("rows this dataset does not have".to_owned()).into());
        }
        let mut columns = Vec::with_capacity(names.len());
        let mut segments: Vec<Range<usize>> = Vec::new();
        for name in names {
            let (at, column) = schema
                .find(name)
                .ok_or_else(|| scope(format!("column {name:?}")))?;
            let range = at..at + column.bytes();
            match segments.last_mut() {
                // Neighbours in the record and in the output: one copy.
                Some(last) if last.end == range.start => last.end = range.end,
                _ => segments.push(range),
            }
            columns.push(column.clone());
        }
        let record_len = RecordSchema {
            columns: columns.clone(),
        }
        .record_len();
        let stride = schema.record_len() as u64;
        Ok(RecordReader {
            unlocked,
            stride,
            columns,
            segments,
            record_len,
            rows,
            caches: Mutex::default(),
        })
    }
}

impl RecordReader {
    /// Permitted columns, in the permit's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Bytes of one record as it is read: the permitted columns only.
    pub fn record_len(&self) -> usize {
        self.record_len
    }

    /// Plaintext bytes of a chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.unlocked.file.header.chunk()
    }

    /// Permitted rows.
    pub fn rows(&self) -> &RowSet {
        &self.rows
    }

    /// Redeems the permit again; when it has ended, nothing decrypted stays behind.
    pub fn admit(&self) -> Result<()> {
        let admitted = self.unlocked.with_key(|_| Ok(()));
        if admitted.is_err() {
            self.caches().clear();
        }
        admitted
    }

    /// Copies the permitted columns of `rows` to `out`, `record_len` bytes each, in the order asked for. On an error
    /// `out` is cleared.
    pub fn read_rows(&self, rows: &[u32], out: &mut [u8]) -> Result<()> {
        let done = self.read(rows, out);
        if done.is_err() {
            out.zeroize();
            // Nothing decrypted stays behind a permit that has ended.
            self.caches().clear();
        }
        done
    }

    fn read(&self, rows: &[u32], out: &mut [u8]) -> Result<()> {
        if out.len() != rows.len() * self.record_len {
            let what = format!(
                "{} bytes do not hold {} records of {} bytes; give a buffer of that size",
                out.len(),
                rows.len(),
                self.record_len
            );
            return Err(VaultError::BadRequest { what });
        }
        if let Some(row) = rows.iter().find(|row| !self.rows.contains(**row)) {
            let what = format!("row {row}");
            return Err(PermitError::Scope {
                permit: self.unlocked.permit.id(),
                what,
            }
            .into());
        }
        // In row order each chunk is decrypted once a call.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|at| rows[*at]);
        self.unlocked.with_key(|key| {
            let known = self.caches().pop();
            let mut cache = match known {
                Some(cache) => cache,
                None => Cache::new(self.unlocked.file.header.widest())?,
            };
            for at in order {
                let record = &mut out[at * self.record_len..(at + 1) * self.record_len];
                self.copy(key, &mut cache, u64::from(rows[at]) * self.stride, record)?;
            }
            let mut caches = self.caches();
            if caches.len() < CACHES {
                caches.push(cache);
            }
            Ok(())
        })
    }

    fn caches(&self) -> MutexGuard<'_, Vec<Cache>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(
        &self,
        key: &GcmKey,
        cache: &mut Cache,
        start: u64,
        mut record: &mut [u8],
    ) -> Result<()> {
        let size = self.unlocked.file.header.chunk() as u64;
        for segment in &self.segments {
            let mut from = start + segment.start as u64;
            let mut left = segment.len();
            while left > 0 {
                let chunk = cache.chunk(&self.unlocked, key, from / size)?;
                // Below the chunk size, which fits usize.
                let at = usize::try_from(from % size).unwrap_or(0);
                let n = left.min(chunk.len() - at);
                let (now, rest) = record.split_at_mut(n);
                now.copy_from_slice(&chunk[at..at + n]);
                record = rest;
                from += n as u64;
                left -= n;
            }
        }
        Ok(())
    }
}

impl Cache {
    fn new(chunk: usize) -> Result<Self> {
        Ok(Self {
            sealed: bulk::scratch(chunk)?,
            chunks: ChunkCache::default(),
        })
    }

    fn chunk(&mut self, unlocked: &OpenObject, key: &GcmKey, index: u64) -> Result<&[u8]> {
        let header = &unlocked.file.header;
        let len = header.chunk_len(index);
        if self.chunks.get(index).is_none() {
            let mut plain = match self.chunks.room() {
                Some(used) => used,
                None => bulk::scratch(header.widest())?,
            };
            unlocked.chunk(key, index, &mut self.sealed, &mut plain[..len])?;
            self.chunks.keep(index, Arc::new(plain));
        }
        let chunk = self.chunks.get(index).ok_or(VaultError::Closed)?;
        Ok(&chunk[..len])
    }
}
