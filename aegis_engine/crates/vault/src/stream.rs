//! Records into training: blocks are decrypted ahead by a few threads, shuffled within a window, given out in an order
//! that follows from (seed, epoch).
//!
//! A block is a run of neighbouring records that starts in one chunk. Blocks are permuted, cut into groups of `window`,
//! and the records of a group are shuffled: every record comes once an epoch, and only two groups are in memory. Without
//! a shuffle, blocks and records come in their order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use aegis_memory::Pages;

use crate::bulk;
use crate::error::{Result, VaultError};
use crate::project::RecordReader;
use crate::read::ObjectReader;
use crate::shuffle::Words;

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

struct Decoded {
    bytes: Pages,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Decoded {
    fn record(&self, index: usize) -> &[u8] {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[from..self.ends[index]]
    }
}

/// How records are shuffled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShuffle {
    /// Blocks whose records are mixed.
    pub window: u32,
    /// Reproduces the order.
    pub seed: u64,
}

/// Everything that fixes an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// None = in order.
    pub shuffle: Option<BlockShuffle>,
    /// Which epoch.
    pub epoch: u64,
    /// Records of this shard that are not given out: where to go on.
    pub position: u64,
    /// This shard and how many there are: blocks are dealt out in their order.
    pub shard: (u32, u32),
    /// Blocks decrypted ahead of the group that is given out.
    pub read_ahead: u32,
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

    /// The blocks of a shard in the order of the epoch.
    fn order(&self, options: &StreamOptions) -> Result<Vec<u32>> {
        let count = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        let all = match options.shuffle {
            Some(shuffle) => Words::new(shuffle.seed, options.epoch, 0)?.permutation(count)?,
            None => (0..count).collect(),
        };
        let (shard, shards) = options.shard;
        Ok(all
            .into_iter()
            .skip(shard as usize)
            .step_by(shards as usize)
            .collect())
    }

    /// Records that this shard gives out in that epoch.
    pub fn shard_len(&self, options: &StreamOptions) -> Result<u64> {
        let blocks = self.order(options)?;
        Ok(blocks
            .iter()
            .map(|block| self.blocks[*block as usize].records.len() as u64)
            .sum())
    }

    /// Starts an epoch.
    pub fn stream(self: &Arc<Self>, options: StreamOptions) -> Result<RecordStream> {
        RecordStream::new(Arc::clone(self), options)
    }
}

/// What the reading threads and the consumer share.
struct Shared {
    records: Arc<Records>,
    /// Blocks in the order of the epoch.
    order: Vec<u32>,
    state: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    /// Next place in `order` to be decrypted.
    next: usize,
    /// Places below this may be decrypted now.
    limit: usize,
    ready: BTreeMap<usize, Result<Decoded>>,
    stop: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'q>(&self, queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        self.changed
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let place = {
                let mut queue = self.queue();
                while !queue.stop && queue.next >= queue.limit && queue.next < self.order.len() {
                    queue = self.wait(queue);
                }
                if queue.stop || queue.next >= self.order.len() {
                    return;
                }
                queue.next += 1;
                queue.next - 1
            };
            let block = &self.records.blocks[self.order[place] as usize];
            let source = block.source as usize;
            // A panic must reach the consumer, who waits for this block.
            let decoded = catch_unwind(AssertUnwindSafe(|| {
                self.records.sources[source].read(block.records.clone(), &self.records.rows[source])
            }))
            .unwrap_or(Err(VaultError::Closed));
            self.queue().ready.insert(place, decoded);
            self.changed.notify_all();
        }
    }
}

/// A group of blocks whose records are given out, mixed.
struct Group {
    blocks: Vec<Decoded>,
    /// (block, record in it), in the order they come.
    order: Vec<(u32, u32)>,
    used: usize,
}

/// The records of one epoch of one shard. Dropping it stops its threads.
pub struct RecordStream {
    shared: Arc<Shared>,
    options: StreamOptions,
    window: usize,
    group: Option<Group>,
    /// Groups taken so far.
    groups: u64,
    position: u64,
    threads: Vec<JoinHandle<()>>,
}

impl RecordStream {
    fn new(records: Arc<Records>, options: StreamOptions) -> Result<Self> {
        let (number, count) = options.shard;
        if count == 0 || number >= count || options.shuffle.is_some_and(|s| s.window == 0) {
            return Err(VaultError::BadRequest {
                what: format!(
                    "shard {number} of {count} with that window is not possible; shards are numbered from 0, a window has at least 1 block"
                ),
            });
        }
        let window = options.shuffle.map_or(1, |shuffle| shuffle.window as usize);
        let order = records.order(&options)?;
        // Whole groups before the position are not even decrypted.
        let (mut skip, mut groups, mut start) = (options.position, 0, 0);
        for group in order.chunks(window) {
            let size: u64 = group
                .iter()
                .map(|block| records.blocks[*block as usize].records.len() as u64)
                .sum();
            if skip < size {
                break;
            }
            skip -= size;
            groups += 1;
            start += group.len();
        }
        let ahead = options.read_ahead as usize;
        let shared = Arc::new(Shared {
            state: Mutex::new(Queue {
                next: start,
                limit: start + window + ahead,
                ready: BTreeMap::new(),
                stop: false,
            }),
            changed: Condvar::new(),
            order,
            records,
        });
        let mut threads = Vec::new();
        for _ in 0..bulk::workers(None, (window + ahead) as u64) {
            let mine = Arc::clone(&shared);
            let started = std::thread::Builder::new()
                .name("aegis-records".to_owned())
                .spawn(move || mine.work());
            match started {
                Ok(thread) => threads.push(thread),
                // One is enough, if slower.
                Err(_) if !threads.is_empty() => break,
                Err(error) => {
                    return Err(VaultError::io(
                        "start a thread to read",
                        Path::new("records"),
                    )(error));
                }
            }
        }
        let mut stream = Self {
            shared,
            options,
            window,
            group: None,
            groups,
            position: options.position - skip,
            threads,
        };
        if skip > 0 {
            stream.advance()?;
            if let Some(group) = &mut stream.group {
                group.used = usize::try_from(skip)
                    .unwrap_or(usize::MAX)
                    .min(group.order.len());
                stream.position += group.used as u64;
            }
        }
        Ok(stream)
    }

    /// Records given out or skipped so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next group; none at the end.
    fn advance(&mut self) -> Result<()> {
        self.group = None;
        let first = usize::try_from(self.groups).unwrap_or(usize::MAX) * self.window;
        let last = (first + self.window).min(self.shared.order.len());
        if first >= last {
            return Ok(());
        }
        let mut blocks = Vec::with_capacity(last - first);
        let mut queue = self.shared.queue();
        for place in first..last {
            loop {
                if let Some(decoded) = queue.ready.remove(&place) {
                    blocks.push(decoded?);
                    break;
                }
                queue = self.shared.wait(queue);
            }
        }
        queue.limit = last + self.window + self.options.read_ahead as usize;
        drop(queue);
        self.shared.changed.notify_all();
        let flat: Vec<(u32, u32)> = (0..)
            .zip(&blocks)
            .flat_map(|(block, decoded)| {
                let count = u32::try_from(decoded.ends.len()).unwrap_or(u32::MAX);
                (0..count).map(move |record| (block, record))
            })
            .collect();
        let order = match self.options.shuffle {
            // The shard has groups of its own: its number keeps their streams apart.
            Some(shuffle) => {
                let (shard, shards) = self.options.shard;
                let number = self.groups * u64::from(shards) + u64::from(shard);
                let count = u32::try_from(flat.len()).unwrap_or(u32::MAX);
                let order =
                    Words::new(shuffle.seed, self.options.epoch, 1 + number)?.permutation(count)?;
                order.into_iter().map(|at| flat[at as usize]).collect()
            }
            None => flat,
        };
        self.groups += 1;
        self.group = Some(Group {
            blocks,
            order,
            used: 0,
        });
        Ok(())
    }

    fn current(&mut self) -> Result<Option<&mut Group>> {
        while self
            .group
            .as_ref()
            .is_none_or(|group| group.used == group.order.len())
        {
            self.advance()?;
            if self.group.is_none() {
                return Ok(None);
            }
        }
        Ok(self.group.as_mut())
    }

    /// Fills `out` with whole records of `stride` bytes; gives how many, fewer only at the end of the epoch.
    pub fn fill(&mut self, stride: usize, out: &mut [u8]) -> Result<usize> {
        let wanted = out.len() / stride.max(1);
        let mut done = 0;
        while done < wanted {
            let Some(group) = self.current()? else { break };
            let n = (wanted - done).min(group.order.len() - group.used);
            let target = out[done * stride..(done + n) * stride].chunks_mut(stride);
            for ((block, record), target) in
                group.order[group.used..group.used + n].iter().zip(target)
            {
                let record = group.blocks[*block as usize].record(*record as usize);
                if record.len() != stride {
                    return Err(VaultError::BadRequest {
                        what: "the records have different sizes; read them one by one".to_owned(),
                    });
                }
                target.copy_from_slice(record);
            }
            group.used += n;
            done += n;
            self.position += n as u64;
        }
        Ok(done)
    }

    /// The next record, of any size.
    pub fn next_record(&mut self) -> Result<Option<Pages>> {
        let Some(group) = self.current()? else {
            return Ok(None);
        };
        let (block, record) = group.order[group.used];
        let bytes = group.blocks[block as usize].record(record as usize);
        let mut out = Pages::new(bytes.len()).map_err(VaultError::memory(bytes.len()))?;
        out.copy_from_slice(bytes);
        group.used += 1;
        self.position += 1;
        Ok(Some(out))
    }
}

impl Drop for RecordStream {
    fn drop(&mut self) {
        self.shared.queue().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of a reader is its own; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}
