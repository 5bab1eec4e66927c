//! Appends records: durable before the caller goes on.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_folder::{AsDir, Place};
use serde_json::{Value, json};

use crate::cursor::Cursor;
use crate::error::AuditError;
use crate::event::Event;
use crate::head::{Head, Record};
use crate::mark::Mark;
use crate::read::{settled_length, wait};
use crate::scan::{Scan, start};
use crate::{canonical, format, time};

/// An open log. Threads share one; processes each open their own on the same folder.
pub struct Log {
    file: File,
    place: Place,
    /// Opened on a file system that cannot be written to: it takes no records.
    read_only: bool,
    end: Mutex<End>,
    /// `fdatasync`; a field so that a test can let it fail.
    sync: fn(&File) -> io::Result<()>,
}

/// Where the checked part of the file ends.
struct End {
    offset: u64,
    /// Where the last record starts; 0 when there is none.
    last: u64,
    head: Head,
    /// Why nothing may be appended any more.
    broken: Option<String>,
}

impl Log {
    /// Opens the log in `dir` for appending, creates it when there is none, and checks the whole chain.
    ///
    /// `origin` names what the log belongs to; a log made for another origin is [`AuditError::WrongOrigin`]. A torn
    /// tail is cut and the cut is recorded; anything else that does not check is [`AuditError::Tampered`].
    pub fn open<D: AsDir + ?Sized>(dir: &D, origin: &str) -> Result<Self, AuditError> {
        Self::open_behind(dir, origin, None)
    }

    /// As [`open`](Self::open), but checks only what lies behind `mark`, a place that was checked before, and the record
    /// right before it. A log that does not have the mark's record there is [`AuditError::Rollback`], or
    /// [`AuditError::Tampered`] where the whole chain says so. A mark without a place: the whole chain is checked.
    pub fn open_from<D: AsDir + ?Sized>(
        dir: &D,
        origin: &str,
        mark: &Mark,
    ) -> Result<Self, AuditError> {
        Self::open_behind(dir, origin, Some(mark))
    }

    fn open_behind<D: AsDir + ?Sized>(
        dir: &D,
        origin: &str,
        mark: Option<&Mark>,
    ) -> Result<Self, AuditError> {
        let folder = dir
            .dir(true)
            .map_err(AuditError::io("create", dir.label()))?;
        let place = format::file_in(&folder);
        create(&folder, &place, origin)?;
        let file = place
            .open_to_write()
            .map_err(AuditError::io("open", place.path()))?;
        let from = Self::begin(&file, place.path(), origin, mark)?;
        let log = Self {
            file,
            place,
            read_only: false,
            end: Mutex::new(End {
                offset: from.offset,
                last: from.last,
                head: from.head,
                broken: None,
            }),
            sync: File::sync_data,
        };
        // The long way without the lock, so that opening a large log does not hold up others. An error here may be
        // an append just under way; the short rest is decided under the lock.
        let mut end = log.lock()?;
        let length = log.length()?;
        let mut scan = Scan::new(&log.file, log.place.path(), from, length);
        let mut lost = mark.filter(|mark| mark.head.seq > 0);
        while let Ok(true) = scan.advance() {
            lost = lost.filter(|mark| mark.head != scan.head());
        }
        (end.offset, end.last, end.head) = (scan.offset(), scan.last(), scan.head());
        log.exclusively(|| log.catch_up(&mut end))?;
        let found = end.head;
        drop(end);
        // From the mark itself nothing had to be found.
        match lost.filter(|mark| mark.end == 0 || from.offset != mark.end) {
            Some(mark) => Err(AuditError::Rollback {
                file: log.path().to_path_buf(),
                expected: mark.head,
                found,
            }),
            None => Ok(log),
        }
    }

    /// Where checking starts: at the mark, when the file has its record there.
    fn begin(
        file: &File,
        path: &Path,
        origin: &str,
        mark: Option<&Mark>,
    ) -> Result<Cursor, AuditError> {
        let (offset, genesis) = start(file, path, Some(origin))?;
        Ok(match mark.filter(|mark| mark.end != 0) {
            Some(mark) if mark.holds(file, path, &genesis)? => {
                Cursor::at(mark.end, mark.last, mark.head)
            }
            _ => Cursor::at(offset, 0, genesis),
        })
    }

    /// Opens the log in `dir` where nothing can be written: checks the whole chain, changes nothing, and takes no records.
    /// A torn tail is left where it is and not counted.
    pub fn open_read_only<D: AsDir + ?Sized>(dir: &D, origin: &str) -> Result<Self, AuditError> {
        Self::open_behind_read_only(dir, origin, None)
    }

    /// As [`open_read_only`](Self::open_read_only), from a mark; see [`open_from`](Self::open_from).
    pub fn open_read_only_from<D: AsDir + ?Sized>(
        dir: &D,
        origin: &str,
        mark: &Mark,
    ) -> Result<Self, AuditError> {
        Self::open_behind_read_only(dir, origin, Some(mark))
    }

    fn open_behind_read_only<D: AsDir + ?Sized>(
        dir: &D,
        origin: &str,
        mark: Option<&Mark>,
    ) -> Result<Self, AuditError> {
        let (file, place) = crate::read::open(dir)?;
        let from = Self::begin(&file, place.path(), origin, mark)?;
        let length = settled_length(&file, place.path())?;
        let mut scan = Scan::new(&file, place.path(), from, length);
        let mut lost = mark.filter(|mark| mark.head.seq > 0);
        loop {
            match scan.advance() {
                Ok(true) => lost = lost.filter(|mark| mark.head != scan.head()),
                Ok(false) | Err(AuditError::Torn { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        let end = (scan.offset(), scan.last(), scan.head());
        if let Some(mark) = lost.filter(|mark| mark.end == 0 || from.offset != mark.end) {
            return Err(AuditError::Rollback {
                file: place.path().to_path_buf(),
                expected: mark.head,
                found: end.2,
            });
        }
        Ok(Self {
            file,
            place,
            read_only: true,
            end: Mutex::new(End {
                offset: end.0,
                last: end.1,
                head: end.2,
                broken: None,
            }),
            sync: File::sync_data,
        })
    }

    /// Appends one record and returns when it is on the disk.
    ///
    /// `body` is a JSON object without fractions; `"time"` is added when absent. Records of one log are in one order,
    /// whichever thread or process wrote them. After a failed sync the log takes no records until it is opened again:
    /// the kernel may have dropped the bytes and would report the next sync as good.
    pub fn append(&self, body: &Value) -> Result<Record, AuditError> {
        let body = time::with_time(body);
        let payload = canonical::canonical(&body)?;
        if self.read_only {
            return Err(AuditError::ReadOnly {
                file: self.path().to_path_buf(),
            });
        }
        let mut end = self.lock()?;
        self.exclusively(|| {
            self.check_in_place()?;
            self.catch_up(&mut end)?;
            self.write(&mut end, &payload)
        })?;
        Ok(Record {
            seq: end.head.seq - 1,
            hash: end.head.hash,
            body,
        })
    }

    /// Appends a record of the engine about `event`; as [`append`](Self::append).
    pub fn record(&self, event: Event, mut facts: Value) -> Result<Record, AuditError> {
        if let Some(fields) = facts.as_object_mut() {
            fields.insert("event".to_owned(), event.name().into());
        }
        self.append(&facts)
    }

    /// The head as this handle last saw it: at its opening or its last append.
    pub fn head(&self) -> Head {
        // Each change of the two fields is complete before anything can panic.
        self.end.lock().unwrap_or_else(PoisonError::into_inner).head
    }

    /// The place behind the last record this handle has seen, to be remembered for the next opening.
    pub fn mark(&self) -> Mark {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        Mark {
            head: end.head,
            last: end.last,
            end: end.offset,
        }
    }

    /// The head with what other processes appended since, checked.
    pub fn newest(&self) -> Result<Head, AuditError> {
        let mut end = self.lock()?;
        if self.read_only {
            return Ok(end.head);
        }
        self.exclusively(|| {
            self.check_in_place()?;
            self.catch_up(&mut end)
        })?;
        Ok(end.head)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    fn lock(&self) -> Result<MutexGuard<'_, End>, AuditError> {
        let end = self
            .end
            .lock()
            .map_err(|_| self.unavailable("a thread failed while it appended"))?;
        match &end.broken {
            Some(reason) => Err(self.unavailable(reason)),
            None => Ok(end),
        }
    }

    /// Runs `work` while no other process appends.
    fn exclusively<T>(
        &self,
        work: impl FnOnce() -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        wait(self.path(), || self.file.try_lock())?;
        let result = work();
        // Closing the file would release the lock as well; failing to release it changes nothing of the result.
        let _ = self.file.unlock();
        result
    }

    /// Takes in what other processes appended, and cuts what one of them left torn.
    fn catch_up(&self, end: &mut End) -> Result<(), AuditError> {
        let length = self.length()?;
        if length < end.offset {
            let reason = "the file became shorter while it was open";
            return Err(AuditError::Tampered {
                file: self.path().to_path_buf(),
                seq: end.head.seq,
                offset: length,
                reason,
            });
        }
        if length == end.offset {
            return Ok(());
        }
        let from = Cursor::at(end.offset, end.last, end.head);
        let mut scan = Scan::new(&self.file, self.path(), from, length);
        let found = loop {
            match scan.advance() {
                Ok(true) => {}
                other => break other,
            }
        };
        (end.offset, end.last, end.head) = (scan.offset(), scan.last(), scan.head());
        match found {
            Ok(_) => Ok(()),
            Err(AuditError::Torn { bytes, .. }) => {
                self.file
                    .set_len(end.offset)
                    .map_err(AuditError::io("truncate", self.path()))?;
                let body = time::with_time(
                    &json!({"event": Event::RecoveryTruncated.name(), "bytes": bytes}),
                );
                self.write(end, &canonical::canonical(&body)?)
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, end: &mut End, payload: &[u8]) -> Result<(), AuditError> {
        let frame = format::frame(&end.head, payload)?;
        if let Err(source) = self.file.write_all_at(&frame, end.offset) {
            // A full disk may pass: take back what was written, so that the next append finds a whole chain.
            if let Err(undo) = self.file.set_len(end.offset) {
                end.broken = Some(format!("half a record could not be taken back: {undo}"));
            }
            return Err(AuditError::io("append to", self.path())(source));
        }
        if let Err(source) = (self.sync)(&self.file) {
            let reason = format!("a record could not be made durable: {source}");
            let error = self.unavailable(&reason);
            end.broken = Some(reason);
            return Err(error);
        }
        end.last = end.offset;
        end.offset += frame.len() as u64;
        end.head = format::chain(&end.head, payload);
        Ok(())
    }

    /// Appending to a file that was replaced or removed would record into nowhere.
    fn check_in_place(&self) -> Result<(), AuditError> {
        let in_place = self
            .place
            .is_of(&self.file)
            .map_err(AuditError::io("stat", self.path()))?;
        if in_place {
            return Ok(());
        }
        Err(self.unavailable("its file was removed or replaced while it was open"))
    }

    fn length(&self) -> Result<u64, AuditError> {
        Ok(self
            .file
            .metadata()
            .map_err(AuditError::io("stat", self.path()))?
            .len())
    }

    fn unavailable(&self, reason: &str) -> AuditError {
        AuditError::Unavailable {
            file: self.path().to_path_buf(),
            reason: reason.to_owned(),
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("path", &self.path())
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

/// Makes the file with its header, whole or not at all, and only when there is none.
fn create(dir: &Place, place: &Place, origin: &str) -> Result<(), AuditError> {
    if place.exists() {
        return Ok(());
    }
    // Locks on the folder keep two creators apart; the log's own lock has no file yet.
    let folder = dir.open_dir().map_err(AuditError::io("open", dir.path()))?;
    wait(dir.path(), || folder.try_lock())?;
    if place.exists() {
        return Ok(());
    }
    let temp = dir.join(format::NEW_FILE);
    // What a crash left: the name goes, whatever it leads to.
    temp.unlink()
        .map_err(AuditError::io("remove", temp.path()))?;
    let mut file = temp
        .create_new()
        .map_err(AuditError::io("create", temp.path()))?;
    file.write_all(&format::file_header(origin))
        .and_then(|()| file.sync_all())
        .map_err(AuditError::io("write", temp.path()))?;
    temp.rename(place)
        .and_then(|()| folder.sync_all())
        .map_err(AuditError::io("rename", temp.path()))
}

#[cfg(test)]
mod tests;
