//! A place in a log that was checked once: opening goes on from there instead of from the start.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::cursor::Cursor;
use crate::error::AuditError;
use crate::format::{self, FILE_HEADER, FRAME_HEADER};
use crate::head::Head;

/// Where a log ended when it was checked. Keep it where only the owner of the log can write it: what lies before is not
/// checked again at every opening, only its last record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The head there.
    pub head: Head,
    /// Where the last record starts, in bytes; 0 when there is none.
    pub last: u64,
    /// Where the file ended, in bytes; 0 when that is not known: then everything is checked.
    pub end: u64,
}

impl Mark {
    /// A head whose place in the file is not known.
    pub fn unplaced(head: Head) -> Self {
        Self {
            head,
            last: 0,
            end: 0,
        }
    }

    /// Reading goes on behind it; `None` when its place is not known.
    pub fn cursor(&self) -> Option<Cursor> {
        (self.end != 0).then(|| Cursor::at(self.end, self.last, self.head))
    }

    /// Whether the record that ends here is the one of the head. The file header was checked before.
    pub(crate) fn holds(
        &self,
        file: &File,
        path: &Path,
        genesis: &Head,
    ) -> Result<bool, AuditError> {
        if self.head.seq == 0 {
            return Ok(self.end == FILE_HEADER as u64 && self.head.hash == genesis.hash);
        }
        let length = file.metadata().map_err(AuditError::io("stat", path))?.len();
        let whole = self
            .end
            .checked_sub(self.last)
            .and_then(|n| usize::try_from(n).ok());
        let Some(whole) = whole.filter(|n| {
            self.end <= length
                && (FRAME_HEADER + 1..=FRAME_HEADER + format::MAX_PAYLOAD).contains(n)
        }) else {
            return Ok(false);
        };
        let mut bytes = vec![0; whole];
        file.read_exact_at(&mut bytes, self.last)
            .map_err(AuditError::io("read", path))?;
        let (header, payload) = bytes.split_at(FRAME_HEADER);
        let mut hash = [0; 32];
        hash.copy_from_slice(&header[12..44]);
        let before = Head {
            seq: self.head.seq - 1,
            hash,
        };
        Ok(format::frame(&before, payload)? == bytes
            && format::chain(&before, payload) == self.head)
    }
}

impl Cursor {
    /// The same place, to be remembered.
    pub fn mark(&self) -> Mark {
        Mark {
            head: self.head,
            last: self.last,
            end: self.offset,
        }
    }
}
