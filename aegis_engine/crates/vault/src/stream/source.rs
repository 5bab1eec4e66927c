//! Records of objects: where they lie in the plaintext, how they are cut into blocks, how a block is decrypted.

use std::ops::Range;
use std::sync::Arc;

use aegis_memory::Pages;

use crate::dataset::records::RecordReader;
use crate::error::{Result, VaultError};
use crate::object::reader::ObjectReader;

/// Where the records of an object lie in its plaintext.
#[derive(Debug, Clone)]
pub enum Spans {
    /// `count` records of `stride` bytes, the first at byte `start`.
    Fixed {
        /// First byte of the first record.
        start: u64,
        /// Bytes of a record.
        stride: u32,
        /// Number of records.
        count: u32,
    },
    /// Record `i` is bytes `offsets[i]..offsets[i + 1]`: one offset more than records, none smaller than the one before.
    Offsets(Arc<[u64]>),
}

/// An object opened for streaming.
pub enum Source {
    /// A whole object, cut into records.
    Object(Arc<ObjectReader>, Spans),
    /// The permitted rows and columns of a dataset.
    Rows(Arc<RecordReader>),
}

impl Source {
    /// Checks that the records lie within the object.
    pub fn object(reader: Arc<ObjectReader>, spans: Spans) -> Result<Self> {
        let bad = |what: String| Err(VaultError::BadRequest { what });
        let end = match &spans {
            Spans::Fixed { stride: 0, .. } => {
                return bad("a record must have at least one byte; correct its size".to_owned());
            }
            Spans::Fixed {
                start,
                stride,
                count,
            } => start.checked_add(u64::from(*stride) * u64::from(*count)),
            Spans::Offsets(offsets) => {
                if offsets.is_empty() || offsets.len() > u32::MAX as usize || !offsets.is_sorted() {
                    return bad(
                        "offsets must be one more than the records, each at least the one before; correct them"
                            .to_owned(),
                    );
                }
                offsets.last().copied()
            }
        };
        let len = reader.len();
        if end.is_none_or(|end| end > len) {
            return bad(format!(
                "the records end beyond the object's {len} bytes; correct size, count or offsets"
            ));
        }
        Ok(Self::Object(reader, spans))
    }

    fn count(&self) -> u32 {
        match self {
            Self::Object(_, Spans::Fixed { count, .. }) => *count,
            Self::Object(_, Spans::Offsets(offsets)) => {
                u32::try_from(offsets.len() - 1).unwrap_or(u32::MAX)
            }
            // `RowSet` numbers rows by u32.
            Self::Rows(reader) => u32::try_from(reader.rows().len()).unwrap_or(u32::MAX),
        }
    }

    /// Redeems the source's permit again.
    fn admit(&self) -> Result<()> {
        match self {
            Self::Object(reader, _) => reader.admit(),
            Self::Rows(reader) => reader.admit(),
        }
    }

    /// Bytes of a record, when all have the same.
    pub fn stride(&self) -> Option<u32> {
        match self {
            Self::Object(_, Spans::Fixed { stride, .. }) => Some(*stride),
            Self::Object(_, Spans::Offsets(_)) => None,
            Self::Rows(reader) => u32::try_from(reader.record_len()).ok(),
        }
    }

    /// Cuts the records into runs that start in one chunk each.
    fn blocks(&self, object: u32, out: &mut Vec<Block>) {
        let count = self.count();
        let mut push = |from: u32, to: u32| {
            if from < to {
                out.push(Block {
                    source: object,
                    records: from..to,
                });
            }
        };
        match self {
            Self::Rows(reader) => {
                let step = u32::try_from(reader.chunk_bytes() / reader.record_len().max(1))
                    .unwrap_or(u32::MAX)
                    .max(1);
                let mut from = 0;
                while from < count {
                    let to = from.saturating_add(step).min(count);
                    push(from, to);
                    from = to;
                }
            }
            Self::Object(reader, spans) => {
                let chunk = reader.chunk_bytes() as u64;
                let mut from = 0;
                while from < count {
                    let end = (spans.range(from).start / chunk + 1) * chunk;
                    let to = spans.first_from(end, from + 1, count);
                    push(from, to);
                    from = to;
                }
            }
        }
    }

    /// Decrypts the records `range`, back to back.
    fn read(&self, range: Range<u32>, rows: &[u32]) -> Result<Decoded> {
        match self {
            Self::Object(reader, spans) => {
                let (from, to) = (
                    spans.range(range.start).start,
                    spans.range(range.end - 1).end,
                );
                let len = usize::try_from(to - from).unwrap_or(usize::MAX);
                let mut bytes = Pages::new(len).map_err(VaultError::memory(len))?;
                reader.read_at(from, &mut bytes)?;
                let ends = range
                    .map(|record| usize::try_from(spans.range(record).end - from).unwrap_or(0))
                    .collect();
                Ok(Decoded { bytes, ends })
            }
            Self::Rows(reader) => {
                let stride = reader.record_len();
                let len = range.len() * stride;
                let mut bytes = Pages::new(len).map_err(VaultError::memory(len))?;
                reader.read_rows(&rows[range.start as usize..range.end as usize], &mut bytes)?;
                Ok(Decoded {
                    bytes,
                    ends: (1..=range.len()).map(|n| n * stride).collect(),
                })
            }
        }
    }
}

impl Spans {
    fn range(&self, record: u32) -> Range<u64> {
        match self {
            Self::Fixed { start, stride, .. } => {
                let from = start + u64::from(record) * u64::from(*stride);
                from..from + u64::from(*stride)
            }
            Self::Offsets(offsets) => offsets[record as usize]..offsets[record as usize + 1],
        }
    }

    /// The first record in `low..high` that starts at byte `at` or later, or `high`.
    fn first_from(&self, at: u64, low: u32, high: u32) -> u32 {
        match self {
            Self::Fixed { start, stride, .. } => {
                let n = at.saturating_sub(*start).div_ceil(u64::from(*stride));
                u32::try_from(n).unwrap_or(high).clamp(low, high)
            }
            Self::Offsets(offsets) => {
                let part = &offsets[low as usize..high as usize];
                low + u32::try_from(part.partition_point(|offset| *offset < at)).unwrap_or(0)
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Block {
    source: u32,
    records: Range<u32>,
}

/// A block's records.
pub(crate) struct Decoded {
    bytes: Pages,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Decoded {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn record(&self, index: usize) -> &[u8] {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[from..self.ends[index]]
    }
}

/// Sources and how their records are cut into blocks; shared by the epochs.
pub struct Records {
    sources: Vec<Source>,
    /// Permitted rows of each `Source::Rows`.
    rows: Vec<Vec<u32>>,
    blocks: Vec<Block>,
    count: u64,
}

impl Records {
    /// Cuts the sources into blocks.
    pub fn new(sources: Vec<Source>) -> Result<Self> {
        let mut blocks = Vec::new();
        for (number, source) in (0..).zip(&sources) {
            source.blocks(number, &mut blocks);
        }
        if u32::try_from(blocks.len()).is_err() {
            return Err(VaultError::BadRequest {
                what: "more than 2^32 blocks; split the dataset".to_owned(),
            });
        }
        let rows = sources
            .iter()
            .map(|source| match source {
                Source::Rows(reader) => reader.rows().iter().collect(),
                Source::Object(..) => Vec::new(),
            })
            .collect();
        Ok(Self {
            count: sources.iter().map(|s| u64::from(s.count())).sum(),
            sources,
            rows,
            blocks,
        })
    }

    /// Records in all.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of a record, when all have the same.
    pub fn stride(&self) -> Option<u32> {
        let first = self.sources.first()?.stride()?;
        self.sources
            .iter()
            .all(|source| source.stride() == Some(first))
            .then_some(first)
    }

    /// One record by its number over all sources, in the order of storage.
    pub fn locate(&self, mut record: u64) -> Option<(usize, u32)> {
        for (number, source) in self.sources.iter().enumerate() {
            let count = u64::from(source.count());
            if record < count {
                return Some((number, u32::try_from(record).ok()?));
            }
            record -= count;
        }
        None
    }

    /// Copies the records `wanted` into `out`, `stride` bytes each.
    pub fn take(&self, wanted: &[u64], out: &mut [u8]) -> Result<()> {
        let bad = |what: String| VaultError::BadRequest { what };
        let Some(stride) = self.stride() else {
            return Err(bad(
                "records of different sizes are read one by one".to_owned()
            ));
        };
        if out.len() != wanted.len() * stride as usize {
            return Err(bad(format!(
                "{} bytes do not hold {} records of {stride} bytes",
                out.len(),
                wanted.len()
            )));
        }
        for (record, out) in wanted.iter().zip(out.chunks_mut(stride as usize)) {
            let missing = || bad(format!("there is no record {record} of {}", self.count));
            let (source, index) = self.locate(*record).ok_or_else(missing)?;
            match &self.sources[source] {
                Source::Object(reader, spans) => {
                    reader.read_at(spans.range(index).start, out)?;
                }
                Source::Rows(reader) => {
                    reader.read_rows(&[self.rows[source][index as usize]], out)?;
                }
            }
        }
        Ok(())
    }

    /// One record of any size.
    pub fn get(&self, record: u64) -> Result<Pages> {
        let missing = || VaultError::BadRequest {
            what: format!("there is no record {record} of {}", self.count),
        };
        let (source, index) = self.locate(record).ok_or_else(missing)?;
        let decoded = self.sources[source].read(index..index + 1, &self.rows[source])?;
        Ok(decoded.bytes)
    }

    /// How many blocks there are.
    pub(crate) fn block_count(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    /// Records of these blocks.
    pub(crate) fn records_in(&self, blocks: &[u32]) -> u64 {
        let sizes = blocks
            .iter()
            .map(|block| self.blocks[*block as usize].records.len() as u64);
        sizes.sum()
    }

    /// Decrypts one block.
    pub(crate) fn read_block(&self, block: u32) -> Result<Decoded> {
        let block = &self.blocks[block as usize];
        let source = block.source as usize;
        self.sources[source].read(block.records.clone(), &self.rows[source])
    }

    /// The source of a block.
    pub(crate) fn source_of(&self, block: u32) -> u32 {
        self.blocks[block as usize].source
    }

    /// Redeems again the permit of a source.
    pub(crate) fn admit(&self, source: u32) -> Result<()> {
        self.sources[source as usize].admit()
    }
}
