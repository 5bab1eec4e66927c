//! Reads records back, checking the chain on the way.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use aegis_folder::{AsDir, Place};

use crate::cursor::Cursor;
use crate::error::AuditError;
use crate::head::Record;
use crate::scan::{Scan, start};
use crate::{canonical, format};

/// How long to wait for an append of another process. One takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The records of a log as they were when reading began; ends after the first error.
pub struct Records {
    scan: Scan<File>,
    failed: bool,
}

/// All records of the log in `dir`, oldest first, without writing anything.
pub fn read<D: AsDir + ?Sized>(dir: &D) -> Result<Records, AuditError> {
    let (file, place) = open(dir)?;
    let (offset, head) = start(&file, place.path(), None)?;
    records(file, place.path(), Cursor::at(offset, 0, head))
}

/// The records behind a place reached before. A log that is shorter now is [`AuditError::Rollback`]; one that was
/// rewritten shows at the first new record, which does not follow the one remembered.
pub fn read_from<D: AsDir + ?Sized>(dir: &D, cursor: Cursor) -> Result<Records, AuditError> {
    let (file, place) = open(dir)?;
    records(file, place.path(), cursor)
}

impl Records {
    /// The place behind the last record given out.
    pub fn cursor(&self) -> Cursor {
        Cursor::at(self.scan.offset(), self.scan.last(), self.scan.head())
    }
}

impl Iterator for Records {
    type Item = Result<Record, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.scan.advance().and_then(|more| {
            if !more {
                return Ok(None);
            }
            let head = self.scan.head();
            let body = canonical::parse(self.scan.payload()).ok_or_else(|| {
                self.scan
                    .tampered_before("its payload is not canonical JSON")
            })?;
            Ok(Some(Record {
                seq: head.seq - 1,
                hash: head.hash,
                body,
            }))
        });
        self.failed = item.is_err();
        item.transpose()
    }
}

fn records(file: File, path: &Path, from: Cursor) -> Result<Records, AuditError> {
    let end = settled_length(&file, path)?;
    if end < from.offset {
        let (offset, head) = start(&file, path, None)?;
        let mut scan = Scan::new(&file, path, Cursor::at(offset, 0, head), end);
        while scan.advance()? {}
        return Err(AuditError::Rollback {
            file: path.to_path_buf(),
            expected: from.head,
            found: scan.head(),
        });
    }
    Ok(Records {
        scan: Scan::new(file, path, from, end),
        failed: false,
    })
}

/// Opens the file of the log in `dir` for reading only.
pub(crate) fn open<D: AsDir + ?Sized>(dir: &D) -> Result<(File, Place), AuditError> {
    let folder = dir
        .dir(false)
        .map_err(AuditError::io("open", dir.label()))?;
    let place = format::file_in(&folder);
    let file = place.open().map_err(AuditError::io("open", place.path()))?;
    Ok((file, place))
}

/// The length of the file at a moment when no append is under way: half a record is then a torn one.
pub(crate) fn settled_length(file: &File, path: &Path) -> Result<u64, AuditError> {
    wait(path, || file.try_lock_shared())?;
    let length = file.metadata().map(|metadata| metadata.len());
    file.unlock().map_err(AuditError::io("unlock", path))?;
    length.map_err(AuditError::io("stat", path))
}

/// Takes a lock, or says that somebody else does not let go of it: an error beats hanging for ever.
pub(crate) fn wait(
    path: &Path,
    mut lock: impl FnMut() -> Result<(), TryLockError>,
) -> Result<(), AuditError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    loop {
        match lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(AuditError::io("lock", path)(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let reason = format!(
                    "another process has held its lock for {} s",
                    PATIENCE.as_secs()
                );
                return Err(AuditError::Unavailable {
                    file: path.to_path_buf(),
                    reason,
                });
            }
            Err(TryLockError::WouldBlock) => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
        }
    }
}
