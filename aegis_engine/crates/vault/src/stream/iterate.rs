//! Records into training: blocks are decrypted ahead by a few threads, shuffled within a window, given out in an order
//! that follows from (seed, epoch).
//!
//! A block is a run of neighbouring records that starts in one chunk. Blocks are permuted, cut into groups of `window`,
//! and the records of a group are shuffled: every record comes once an epoch, and only two groups are in memory. Without
//! a shuffle, blocks and records come in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use aegis_memory::Pages;
use zeroize::Zeroize;

use crate::error::{Result, VaultError};
use crate::object::bulk;
use crate::stream::ahead::{Queue, Shared};
use crate::stream::order::shuffle_order;
use crate::stream::source::{Decoded, Records};

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

/// A group of blocks whose records are given out, mixed.
struct Group {
    blocks: Vec<Decoded>,
    /// Where they are from: their permits are redeemed whenever records are given out.
    sources: BTreeSet<u32>,
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
    /// The source whose permit ended, or whose block could not be read: nothing is given out any more.
    ended: Option<u32>,
    /// Whose records the last call gave out.
    given: Vec<u32>,
    /// Groups taken so far.
    groups: u64,
    position: u64,
    threads: Vec<JoinHandle<()>>,
}

impl StreamOptions {
    fn check(&self) -> Result<()> {
        let (number, count) = self.shard;
        if count == 0 || number >= count || self.shuffle.is_some_and(|s| s.window == 0) {
            return Err(VaultError::BadRequest {
                what: format!(
                    "shard {number} of {count} with that window is not possible; shards are numbered from 0, a window has at least 1 block"
                ),
            });
        }
        Ok(())
    }
}

impl Records {
    /// The blocks of a shard in the order of the epoch.
    fn order(&self, options: &StreamOptions) -> Result<Vec<u32>> {
        let count = self.block_count();
        let all = match options.shuffle {
            Some(shuffle) => shuffle_order(shuffle.seed, options.epoch, 0, count)?,
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
        Ok(self.records_in(&self.order(options)?))
    }

    /// Starts an epoch.
    pub fn stream(self: &Arc<Self>, options: StreamOptions) -> Result<RecordStream> {
        RecordStream::new(Arc::clone(self), options)
    }
}

/// Threads that decrypt at most `most` blocks ahead.
fn readers(shared: &Arc<Shared>, most: usize) -> Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for _ in 0..bulk::workers(None, most as u64) {
        let mine = Arc::clone(shared);
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
    Ok(threads)
}

impl RecordStream {
    pub(crate) fn new(records: Arc<Records>, options: StreamOptions) -> Result<Self> {
        options.check()?;
        let window = options.shuffle.map_or(1, |shuffle| shuffle.window as usize);
        let order = records.order(&options)?;
        // Whole groups before the position are not even decrypted.
        let (mut skip, mut groups, mut start) = (options.position, 0, 0);
        for group in order.chunks(window) {
            let size = records.records_in(group);
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
        let threads = readers(&shared, window + ahead)?;
        let mut stream = Self {
            shared,
            options,
            window,
            group: None,
            ended: None,
            given: Vec::new(),
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
        let sources = self.shared.order[first..last]
            .iter()
            .map(|block| self.shared.records.source_of(*block))
            .collect();
        let mut queue = self.shared.queue();
        for place in first..last {
            loop {
                if let Some(decoded) = queue.ready.remove(&place) {
                    match decoded {
                        Ok(decoded) => blocks.push(decoded),
                        Err(error) => {
                            drop(queue);
                            let source = self.shared.records.source_of(self.shared.order[place]);
                            self.end(source);
                            return Err(error);
                        }
                    }
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
                let count = u32::try_from(decoded.len()).unwrap_or(u32::MAX);
                (0..count).map(move |record| (block, record))
            })
            .collect();
        let order = match self.options.shuffle {
            // The shard has groups of its own: its number keeps their streams apart.
            Some(shuffle) => {
                let (shard, shards) = self.options.shard;
                let number = self.groups * u64::from(shards) + u64::from(shard);
                let count = u32::try_from(flat.len()).unwrap_or(u32::MAX);
                let order = shuffle_order(shuffle.seed, self.options.epoch, 1 + number, count)?;
                order.into_iter().map(|at| flat[at as usize]).collect()
            }
            None => flat,
        };
        self.groups += 1;
        self.group = Some(Group {
            blocks,
            sources,
            order,
            used: 0,
        });
        Ok(())
    }

    /// Drops everything that was decrypted.
    fn end(&mut self, source: u32) {
        self.ended = Some(source);
        self.group = None;
        let mut queue = self.shared.queue();
        queue.stop = true;
        queue.ready.clear();
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// The group that records are given out of now, after its permits were redeemed again.
    fn current(&mut self) -> Result<Option<&mut Group>> {
        if let Some(source) = self.ended {
            self.shared.records.admit(source)?;
            return Err(VaultError::Closed);
        }
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
        for source in self.group.iter().flat_map(|group| &group.sources) {
            if let Err(error) = self.shared.records.admit(*source) {
                let source = *source;
                self.end(source);
                return Err(error);
            }
        }
        Ok(self.group.as_mut())
    }

    /// Fills `out` with whole records of `stride` bytes; gives how many, fewer only at the end of the epoch.
    ///
    /// The permits are redeemed at every call: when one has ended, `out` is cleared, and what was decrypted ahead is dropped.
    pub fn fill(&mut self, stride: usize, out: &mut [u8]) -> Result<usize> {
        let done = self.take(stride, out);
        if done.is_err() {
            out.zeroize();
        }
        done
    }

    /// Redeems the permits of what the last call gave out once more: for a caller that holds many records and hands them on
    /// one by one. When one has ended, nothing is given out any more.
    pub fn redeem(&mut self) -> Result<()> {
        for source in std::mem::take(&mut self.given) {
            if let Err(error) = self.shared.records.admit(source) {
                self.end(source);
                return Err(error);
            }
            self.given.push(source);
        }
        Ok(())
    }

    fn take(&mut self, stride: usize, out: &mut [u8]) -> Result<usize> {
        let wanted = out.len() / stride.max(1);
        let mut done = 0;
        self.given.clear();
        while done < wanted {
            let Some(group) = self.current()? else { break };
            let sources = group.sources.clone();
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
            self.given.extend(sources);
            self.given.sort_unstable();
            self.given.dedup();
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
