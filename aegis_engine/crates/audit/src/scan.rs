//! Walks the chain of an open file and checks every byte of it, in constant memory.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::cursor::Cursor;
use crate::error::AuditError;
use crate::format::{self, FILE_HEADER, FRAME_HEADER, MAX_PAYLOAD};
use crate::head::Head;

const BUFFER: usize = 1 << 18;

/// Reads a file from a place of its own: the cursor of the file handle is shared, and appends may go on beside.
struct From<F> {
    file: F,
    offset: u64,
}

impl<F: Borrow<File>> Read for From<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.borrow().read_at(buf, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// The records between a known place and `end`.
pub(crate) struct Scan<F> {
    reader: BufReader<From<F>>,
    path: PathBuf,
    offset: u64,
    /// Where the last record that checked starts; 0 when there is none.
    last: u64,
    end: u64,
    head: Head,
    payload: Vec<u8>,
}

/// Checks the file header; the place before the first record.
pub(crate) fn start(
    file: &File,
    path: &Path,
    origin: Option<&str>,
) -> Result<(u64, Head), AuditError> {
    let mut header = [0; FILE_HEADER];
    file.read_exact_at(&mut header, 0)
        .map_err(|source| match source.kind() {
            // A new log appears under its name with its header whole, so a crash is no excuse.
            io::ErrorKind::UnexpectedEof => AuditError::Tampered {
                file: path.to_path_buf(),
                seq: 0,
                offset: 0,
                reason: "the file header is cut off",
            },
            _ => AuditError::io("read", path)(source),
        })?;
    Ok((
        FILE_HEADER as u64,
        format::check_file_header(&header, origin, path)?,
    ))
}

impl<F: Borrow<File>> Scan<F> {
    /// From `from` to `end`.
    pub(crate) fn new(file: F, path: &Path, from: Cursor, end: u64) -> Self {
        let Cursor { offset, last, head } = from;
        let reader = BufReader::with_capacity(BUFFER, From { file, offset });
        Self {
            reader,
            path: path.to_path_buf(),
            offset,
            last,
            end,
            head,
            payload: Vec::new(),
        }
    }

    /// Offset behind the last record that checked.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the last record that checked starts; 0 when there is none.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Head after the last record that checked.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// The payload of the last record that checked.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Checks the next record; `false` at the end. After an error the place is still behind the last good record.
    pub(crate) fn advance(&mut self) -> Result<bool, AuditError> {
        let left = self.end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(false);
        }
        if left < FRAME_HEADER as u64 {
            return Err(self.torn(left));
        }
        let mut header = [0; FRAME_HEADER];
        self.reader
            .read_exact(&mut header)
            .map_err(AuditError::io("read", &self.path))?;
        if !format::frame_header_sums(&header) {
            return Err(self.torn_or_tampered(left, FRAME_HEADER, "checksum of the frame header"));
        }
        let promise = format::check_frame_header(&header, &self.head)
            .map_err(|reason| self.tampered(reason))?;
        let whole = FRAME_HEADER + promise.length;
        if left < whole as u64 {
            return Err(self.torn(left));
        }
        self.payload.resize(promise.length, 0);
        self.reader
            .read_exact(&mut self.payload)
            .map_err(AuditError::io("read", &self.path))?;
        if crc32c::crc32c(&self.payload) != promise.crc {
            return Err(self.torn_or_tampered(left, whole, "checksum of the payload"));
        }
        self.head = format::chain(&self.head, &self.payload);
        self.last = self.offset;
        self.offset += whole as u64;
        Ok(true)
    }

    /// The error that the record just checked is wrong in its content.
    pub(crate) fn tampered_before(&self, reason: &'static str) -> AuditError {
        AuditError::Tampered {
            file: self.path.clone(),
            seq: self.head.seq - 1,
            offset: self.offset - (FRAME_HEADER + self.payload.len()) as u64,
            reason,
        }
    }

    /// File systems may persist the new length of a file before its bytes: then the end of a torn record reads as
    /// zeros. No whole record ends in a zero (its last byte is a brace), so zeros at the end of the file say nothing.
    fn torn_or_tampered(&self, left: u64, needs: usize, reason: &'static str) -> AuditError {
        // One append writes one record: a longer tail is no torn append.
        if left > (FRAME_HEADER + MAX_PAYLOAD) as u64 {
            return self.tampered(reason);
        }
        let mut tail = vec![0; usize::try_from(left).unwrap_or_default()];
        if let Err(source) = self
            .reader
            .get_ref()
            .file
            .borrow()
            .read_exact_at(&mut tail, self.offset)
        {
            return AuditError::io("read", &self.path)(source);
        }
        let written = tail
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        if written < needs {
            self.torn(left)
        } else {
            self.tampered(reason)
        }
    }

    fn tampered(&self, reason: &'static str) -> AuditError {
        AuditError::Tampered {
            file: self.path.clone(),
            seq: self.head.seq,
            offset: self.offset,
            reason,
        }
    }

    fn torn(&self, bytes: u64) -> AuditError {
        AuditError::Torn {
            file: self.path.clone(),
            seq: self.head.seq,
            offset: self.offset,
            bytes,
        }
    }
}
