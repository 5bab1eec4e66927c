//! What the Parquet decoder reads through: it sees the byte ranges of the columns asked for and nothing else.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aegis_memory::Pages;
use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::error::TableError;
use crate::source::Source;

/// Plaintext held for all columns together, about.
const BUDGET: u64 = 64 << 20;
const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 8 << 20;
const HUGE: usize = 2 << 20;

/// Byte ranges of column chunks, each with its column; a window of the source a column.
pub struct Windows {
    source: Arc<dyn Source>,
    /// Sorted by start, apart from each other.
    ranges: Vec<(Range<u64>, usize)>,
    held: Vec<Mutex<Option<Held>>>,
    size: u64,
    pool: Arc<Pool>,
    fault: Arc<Mutex<Option<TableError>>>,
}

struct Held {
    start: u64,
    bytes: Bytes,
}

impl Held {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The first error of the source, which the decoder's own error type would turn into text.
pub type Fault = Arc<Mutex<Option<TableError>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the error a source left behind.
pub fn take(fault: &Fault) -> Option<TableError> {
    lock(fault).take()
}

impl Windows {
    /// Refuses ranges outside of the source or over each other.
    pub fn new(
        source: Arc<dyn Source>,
        mut ranges: Vec<(Range<u64>, usize)>,
        columns: usize,
    ) -> std::result::Result<Self, TableError> {
        ranges.sort_by_key(|(range, _)| range.start);
        let inside = ranges
            .iter()
            .all(|(range, _)| range.start <= range.end && range.end <= source.len());
        let apart = ranges
            .windows(2)
            .all(|pair| pair[0].0.end <= pair[1].0.start);
        if !inside || !apart {
            return Err(TableError::unreadable(
                "Parquet",
                &"column chunks lie outside of the file or over each other",
            ));
        }
        let size = (BUDGET / columns.max(1) as u64).clamp(SMALLEST, LARGEST);
        let pool = Arc::new(Pool {
            free: Mutex::default(),
            most: columns + 2,
        });
        Ok(Self {
            source,
            ranges,
            held: (0..columns).map(|_| Mutex::default()).collect(),
            size,
            pool,
            fault: Arc::default(),
        })
    }

    pub fn fault(&self) -> Fault {
        Arc::clone(&self.fault)
    }

    /// The range around `start`, and its column.
    fn range(&self, start: u64) -> Result<(Range<u64>, usize)> {
        let after = self
            .ranges
            .partition_point(|(range, _)| range.start <= start);
        match after.checked_sub(1).map(|at| &self.ranges[at]) {
            Some((range, column)) if start < range.end => Ok((range.clone(), *column)),
            _ => Err(ParquetError::General(
                "a page lies outside of its column".to_owned(),
            )),
        }
    }

    /// Bytes from `start`, at least `least` of them, within one column chunk.
    fn view(&self, start: u64, least: u64) -> Result<Bytes> {
        let (range, column) = self.range(start)?;
        let needed = start.checked_add(least).filter(|end| *end <= range.end);
        let needed = needed
            .ok_or_else(|| ParquetError::EOF("a page is longer than its column".to_owned()))?;
        let mut held = lock(&self.held[column]);
        if let Some(old) = &*held
            && old.start <= start
            && needed <= old.end()
            && start < old.end()
        {
            // Within the window, which fits usize.
            return Ok(old
                .bytes
                .slice(usize::try_from(start - old.start).unwrap_or(usize::MAX)..));
        }
        let grain = self.source.grain().max(1);
        let target = (start + self.size) / grain * grain;
        let end = target.max(needed.next_multiple_of(grain)).min(range.end);
        let window = self.load(start, end, held.as_ref()).map_err(|error| {
            let text = error.to_string();
            lock(&self.fault).get_or_insert(error);
            ParquetError::General(text)
        })?;
        *held = Some(Held {
            start,
            bytes: window.clone(),
        });
        Ok(window)
    }

    /// Gives a window back once its column chunk is read to the end: the next column takes it.
    fn done(&self, end: u64) {
        if let Ok((range, column)) = self.range(end - 1)
            && range.end == end
        {
            lock(&self.held[column]).take();
        }
    }

    fn load(
        &self,
        start: u64,
        end: u64,
        old: Option<&Held>,
    ) -> std::result::Result<Bytes, TableError> {
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        let mut pages = self.pool.take(len)?;
        let mut done = 0;
        // What the window before it has is not decrypted twice.
        if let Some(old) = old.filter(|old| old.start <= start && start < old.end()) {
            let known = &old.bytes[usize::try_from(start - old.start).unwrap_or(usize::MAX)..];
            done = known.len().min(len);
            pages[..done].copy_from_slice(&known[..done]);
        }
        if done < len {
            self.source
                .read_at(start + done as u64, &mut pages[done..len])
                .map_err(TableError::Source)?;
        }
        let pooled = Pooled {
            pages: Some(pages),
            pool: Arc::downgrade(&self.pool),
        };
        Ok(Bytes::from_owner(pooled).slice(..len))
    }
}

/// Windows given back; cleared and unmapped with the last reader.
struct Pool {
    free: Mutex<Vec<Pages>>,
    most: usize,
}

impl Pool {
    fn take(&self, len: usize) -> std::result::Result<Pages, TableError> {
        let mut free = lock(&self.free);
        let fits = (0..free.len())
            .filter(|at| (len..=len.saturating_mul(4).max(HUGE)).contains(&free[*at].len()))
            .min_by_key(|at| free[*at].len());
        if let Some(at) = fits {
            return Ok(free.swap_remove(at));
        }
        drop(free);
        // From 2 MiB on pages are huge.
        let room = if len > HUGE / 8 {
            len.next_multiple_of(HUGE)
        } else {
            len
        };
        Pages::new(room).map_err(|_| TableError::Memory { bytes: len })
    }
}

/// Pages of a window while arrays or pages of the decoder point into it.
struct Pooled {
    pages: Option<Pages>,
    pool: Weak<Pool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        self.pages.as_deref().unwrap_or_default()
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let (Some(pages), Some(pool)) = (self.pages.take(), self.pool.upgrade()) {
            let mut free = lock(&pool.free);
            if free.len() >= pool.most {
                free.remove(0);
            }
            free.push(pages);
        }
    }
}

/// [`Windows`] as the decoder wants to own it.
#[derive(Clone)]
pub struct Reader(pub Arc<Windows>);

impl Length for Reader {
    fn len(&self) -> u64 {
        self.0.source.len()
    }
}

impl ChunkReader for Reader {
    type T = Cursor;

    fn get_read(&self, start: u64) -> Result<Cursor> {
        Ok(Cursor {
            reader: self.clone(),
            at: start,
            rest: Bytes::new(),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.0.view(start, length as u64)?.slice(..length);
        self.0.done(start + length as u64);
        Ok(bytes)
    }
}

/// Reads on from a place: page headers.
pub struct Cursor {
    reader: Reader,
    at: u64,
    rest: Bytes,
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = match self.reader.0.view(self.at, 1) {
                Ok(rest) => rest,
                // The end of the column chunk is the end of the file to a page header.
                Err(_) if lock(&self.reader.0.fault).is_none() => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            };
        }
        let n = self.rest.len().min(out.len());
        self.rest.copy_to_slice(&mut out[..n]);
        self.at += n as u64;
        Ok(n)
    }
}
