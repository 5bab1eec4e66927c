//! Many chunks at once: a few threads, each with one scratch, on chunks at places that are known beforehand.
//!
//! Every chunk's place follows from its number, so no queue orders anything: worker `t` of `T` takes chunks `t`, `t + T`,
//! … with `pread` and `pwrite`. Memory is one chunk a worker (two of a stream).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use aegis_memory::Pages;

use crate::error::{Result, VaultError};
use crate::format::chunk::{self, GcmKey};
use crate::format::header::{HEADER, MAX_CHUNKS, TAG};

/// More than this does not help: memory traffic is the limit.
const WORKERS: usize = 4;

/// Gets the bytes done so far, from one thread at a time, never fewer than before. False = stop.
pub(crate) type Progress<'a> = &'a mut (dyn FnMut(u64) -> bool + Send);

/// How many threads for `chunks` chunks: as many as asked for, or one a core up to four.
pub(crate) fn workers(asked: Option<usize>, chunks: u64) -> usize {
    let most = usize::try_from(chunks).unwrap_or(usize::MAX).max(1);
    // Asking for the number of cores reads files of the control group: not where it cannot matter.
    let wanted = match asked {
        Some(wanted) => wanted.max(1),
        None if most == 1 => 1,
        None => thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS)),
    };
    wanted.min(most)
}

/// Memory for one chunk and its tag.
pub(crate) fn scratch(chunk: usize) -> Result<Pages> {
    Pages::new(chunk + TAG).map_err(VaultError::memory(chunk + TAG))
}

/// First error of any worker, and whether the others should go on.
pub(crate) struct Outcome<'a> {
    stop: AtomicBool,
    first: Mutex<Option<VaultError>>,
    done: Mutex<(u64, Option<Progress<'a>>)>,
}

impl<'a> Outcome<'a> {
    fn new(progress: Option<Progress<'a>>) -> Self {
        Self {
            stop: AtomicBool::new(false),
            first: Mutex::default(),
            done: Mutex::new((0, progress)),
        }
    }

    pub fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, error: VaultError) {
        self.stop.store(true, Ordering::Relaxed);
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }

    pub fn advance(&self, bytes: u64) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.0 += bytes;
        let now = done.0;
        if let Some(tell) = done.1.as_mut()
            && !tell(now)
        {
            self.fail(VaultError::Interrupted);
        }
    }

    fn end(self) -> Result<()> {
        let first = self
            .first
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        first.map_or(Ok(()), Err)
    }
}

/// Runs `work(first, step)` on `count` threads, the caller's among them.
pub(crate) fn striped<'a>(
    count: usize,
    progress: Option<Progress<'a>>,
    work: impl Fn(u64, u64, &Outcome<'a>) -> Result<()> + Sync,
) -> Result<()> {
    let outcome = Outcome::new(progress);
    let run = |first: usize| {
        if let Err(error) = work(first as u64, count as u64, &outcome) {
            outcome.fail(error);
        }
    };
    thread::scope(|scope| {
        let mut alone = vec![0];
        for first in 1..count {
            let run = &run;
            // The system may have no thread left: then this one does that share, too.
            if (thread::Builder::new().spawn_scoped(scope, move || run(first))).is_err() {
                alone.push(first);
            }
        }
        alone.into_iter().for_each(run);
    });
    outcome.end()
}

/// Where sealed chunks go.
pub(crate) struct Target<'a> {
    pub file: &'a File,
    pub path: &'a Path,
    pub key: &'a GcmKey,
    pub chunk: usize,
}

impl Target<'_> {
    /// Seals `len` bytes at the start of `data`, which has room for the tag, and writes them to their place.
    pub fn write(&self, index: u64, last: bool, len: usize, data: &mut [u8]) -> Result<()> {
        if index >= MAX_CHUNKS {
            return Err(VaultError::ObjectTooLarge {
                limit: MAX_CHUNKS * self.chunk as u64,
            });
        }
        let (plain, tag) = data[..len + TAG].split_at_mut(len);
        tag.copy_from_slice(&chunk::seal(self.key, index, last, plain)?);
        let at = HEADER as u64 + index * (self.chunk + TAG) as u64;
        self.file
            .write_all_at(&data[..len + TAG], at)
            .map_err(VaultError::io("write", self.path))
    }
}

/// Seals the first `length` bytes of `source`. A source that turns out shorter is an error; one that grows meanwhile is
/// stored as it was long at the start.
pub(crate) fn seal_file(
    target: &Target<'_>,
    source: &File,
    name: &Path,
    length: u64,
    threads: Option<usize>,
    progress: Option<Progress<'_>>,
) -> Result<u64> {
    let size = target.chunk as u64;
    let chunks = length.div_ceil(size).max(1);
    striped(
        workers(threads, chunks),
        progress,
        |first, step, outcome| {
            let mut data = scratch(target.chunk)?;
            let mut index = first;
            while index < chunks && outcome.going() {
                let from = index * size;
                let len = usize::try_from((length - from).min(size)).unwrap_or(target.chunk);
                source
                    .read_exact_at(&mut data[..len], from)
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::UnexpectedEof => VaultError::SourceChanged,
                        _ => VaultError::io("read", name)(error),
                    })?;
                target.write(index, index + 1 == chunks, len, &mut data)?;
                outcome.advance(len as u64);
                index += step;
            }
            Ok(())
        },
    )?;
    Ok(chunks)
}

/// A full buffer on its way to a sealer.
struct Full {
    index: u64,
    last: bool,
    len: usize,
    data: Pages,
}

/// Seals a source of unknown length: the caller's thread reads, `threads` others seal and write. `read` fills what it is
/// given as far as it can and returns 0 at the end only. Gives the number of bytes and of chunks.
pub(crate) fn seal_stream(
    target: &Target<'_>,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    threads: Option<usize>,
    progress: Option<Progress<'_>>,
) -> Result<(u64, u64)> {
    let count = workers(threads, MAX_CHUNKS);
    let outcome = Outcome::new(progress);
    let (give, take) = sync_channel::<Full>(count);
    let (free, reuse) = sync_channel::<Pages>(2 * count + 2);
    let take = Mutex::new(take);
    let mut totals = (0, 0);
    thread::scope(|scope| {
        let mut started = Err(io::ErrorKind::WouldBlock.into());
        for _ in 0..count {
            let (take, free, outcome) = (&take, free.clone(), &outcome);
            let sealer = thread::Builder::new()
                .spawn_scoped(scope, move || seal_all(target, take, &free, outcome));
            // One is enough, if slower.
            started = started.or(sealer.map(drop));
        }
        if let Err(error) = started {
            outcome.fail(VaultError::io("start a thread to seal", target.path)(error));
        }
        // Sealers hold the only other senders: a dead pipeline is noticed.
        drop(free);
        match feed(target.chunk, read, &give, &reuse, 2 * count, &outcome) {
            Ok(done) => totals = done,
            Err(error) => outcome.fail(error),
        }
        drop(give);
    });
    outcome.end()?;
    Ok(totals)
}

fn seal_all(
    target: &Target<'_>,
    take: &Mutex<Receiver<Full>>,
    free: &SyncSender<Pages>,
    outcome: &Outcome<'_>,
) {
    loop {
        let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut full) = next else { return };
        if outcome.going() {
            match target.write(full.index, full.last, full.len, &mut full.data) {
                Ok(()) => outcome.advance(full.len as u64),
                Err(error) => outcome.fail(error),
            }
        }
        // Full only when the reader is gone; then the buffer is cleared here.
        let _ = free.try_send(full.data);
    }
}

/// Reads chunk by chunk; each is sent once it is known whether more follows.
fn feed(
    chunk: usize,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    give: &SyncSender<Full>,
    reuse: &Receiver<Pages>,
    mut fresh: usize,
    outcome: &Outcome<'_>,
) -> Result<(u64, u64)> {
    let mut held: Option<Full> = None;
    let (mut total, mut index) = (0, 0);
    while outcome.going() {
        let mut data = match reuse.try_recv() {
            Ok(data) => data,
            Err(_) if fresh > 0 => {
                fresh -= 1;
                scratch(chunk)?
            }
            Err(_) => reuse.recv().map_err(|_| VaultError::Closed)?,
        };
        let mut len = 0;
        while len < chunk {
            match read(&mut data[len..chunk])? {
                0 => break,
                n => len += n,
            }
        }
        total += len as u64;
        if len == 0 && index > 0 {
            break;
        }
        let full = Full {
            index,
            last: false,
            len,
            data,
        };
        index += 1;
        if let Some(before) = held.replace(full) {
            give.send(before).map_err(|_| VaultError::Closed)?;
        }
        if len < chunk {
            break;
        }
    }
    if let Some(mut last) = held {
        last.last = true;
        give.send(last).map_err(|_| VaultError::Closed)?;
    }
    Ok((total, index))
}

/// Checks chunks `0..chunks` by `check(index, scratch)`; the error is of the lowest chunk that failed.
pub(crate) fn check_all(
    chunk: usize,
    chunks: u64,
    threads: Option<usize>,
    progress: Option<Progress<'_>>,
    check: impl Fn(u64, &mut Pages, &mut Pages) -> Result<usize> + Sync,
) -> Result<()> {
    let lowest = AtomicU64::new(u64::MAX);
    let error: Mutex<Option<(u64, VaultError)>> = Mutex::default();
    striped(
        workers(threads, chunks),
        progress,
        |first, step, outcome| {
            let (mut sealed, mut plain) = (scratch(chunk)?, scratch(chunk)?);
            let mut index = first;
            while index < chunks.min(lowest.load(Ordering::Relaxed)) && outcome.going() {
                match check(index, &mut sealed, &mut plain) {
                    Ok(len) => outcome.advance(len as u64),
                    Err(failed) => {
                        lowest.fetch_min(index, Ordering::Relaxed);
                        let mut known = error.lock().unwrap_or_else(PoisonError::into_inner);
                        if known.as_ref().is_none_or(|(at, _)| *at > index) {
                            *known = Some((index, failed));
                        }
                        return Ok(());
                    }
                }
                index += step;
            }
            Ok(())
        },
    )?;
    let found = error.into_inner().unwrap_or_else(PoisonError::into_inner);
    match found {
        Some((_, failed)) => Err(failed),
        None => Ok(()),
    }
}

/// Opens whole chunks into `out`, chunk `first` at its start, on `count` threads. `open(index, worker, out)`.
pub(crate) fn open_all(
    chunk: usize,
    first: u64,
    out: &mut [u8],
    count: usize,
    open: impl Fn(u64, usize, &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
    let mut stripes: Vec<Vec<(u64, &mut [u8])>> = (0..count).map(|_| Vec::new()).collect();
    for (at, (index, piece)) in (first..).zip(out.chunks_mut(chunk)).enumerate() {
        stripes[at % count].push((index, piece));
    }
    let stripes: Vec<_> = stripes.into_iter().map(|s| Mutex::new(Some(s))).collect();
    striped(count, None, |mine, _, outcome| {
        let mine = usize::try_from(mine).unwrap_or(0);
        let stripe = stripes[mine]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        for (index, piece) in stripe.into_iter().flatten() {
            if !outcome.going() {
                break;
            }
            open(index, mine, piece)?;
        }
        Ok(())
    })
}
