//! The bytes of headers, frames and hashes, as the crate's page describes them. No I/O here.

use std::path::Path;

use aegis_folder::Place;
use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::error::AuditError;
use crate::head::Head;

/// Bytes of the longest payload.
pub const MAX_PAYLOAD: usize = 1 << 20;

pub(crate) const FILE_HEADER: usize = 64;
pub(crate) const FRAME_HEADER: usize = 56;
/// Bytes of the shortest payload, `{}`.
const MIN_PAYLOAD: usize = 2;
const FILE: &str = "000001.log";
/// The same while it is made.
pub(crate) const NEW_FILE: &str = "000001.new";
const MAGIC: [u8; 8] = *b"AEGISLG1";
const VERSION: u32 = 1;

/// The file of the log in this folder.
pub(crate) fn file_in(dir: &Place) -> Place {
    dir.join(FILE)
}

/// The header of a new log.
pub(crate) fn file_header(origin: &str) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..44].copy_from_slice(digest(&SHA256, origin.as_bytes()).as_ref());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks a file header and gives the head of the log without records.
pub(crate) fn check_file_header(
    header: &[u8; FILE_HEADER],
    origin: Option<&str>,
    file: &Path,
) -> Result<Head, AuditError> {
    let tampered = |reason| {
        Err(AuditError::Tampered {
            file: file.to_path_buf(),
            seq: 0,
            offset: 0,
            reason,
        })
    };
    if crc32c::crc32c(&header[..60]).to_le_bytes() != header[60..] {
        return tampered("checksum of the file header");
    }
    if header[..8] != MAGIC || header[8..12] != VERSION.to_le_bytes() || header[44..60] != [0; 16] {
        return tampered("this is not a version 1 log");
    }
    if origin.is_some_and(|origin| file_header(origin) != *header) {
        return Err(AuditError::WrongOrigin {
            file: file.to_path_buf(),
        });
    }
    let mut context = Context::new(&SHA256);
    context.update(&[0x00]);
    context.update(header);
    Ok(Head {
        seq: 0,
        hash: finish(context),
    })
}

/// The head after a record that follows `before`.
pub(crate) fn chain(before: &Head, payload: &[u8]) -> Head {
    let mut context = Context::new(&SHA256);
    context.update(&[0x01]);
    context.update(&before.seq.to_le_bytes());
    context.update(&before.hash);
    context.update(payload);
    Head {
        seq: before.seq + 1,
        hash: finish(context),
    }
}

/// Frame header and payload of the record that follows `before`.
pub(crate) fn frame(before: &Head, payload: &[u8]) -> Result<Vec<u8>, AuditError> {
    let too_large = || AuditError::TooLarge {
        bytes: payload.len(),
        max: MAX_PAYLOAD,
    };
    if payload.len() > MAX_PAYLOAD {
        return Err(too_large());
    }
    let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
    let mut frame = Vec::with_capacity(FRAME_HEADER + payload.len());
    frame.extend(length.to_le_bytes());
    frame.extend(before.seq.to_le_bytes());
    frame.extend(before.hash);
    frame.extend(0_u32.to_le_bytes());
    frame.extend(crc32c::crc32c(payload).to_le_bytes());
    let crc = crc32c::crc32c(&frame);
    frame.extend(crc.to_le_bytes());
    frame.extend(payload);
    Ok(frame)
}

/// What a frame header promises of its payload.
pub(crate) struct Promise {
    pub(crate) length: usize,
    pub(crate) crc: u32,
}

/// Whether the sum of a frame header is right.
pub(crate) fn frame_header_sums(header: &[u8; FRAME_HEADER]) -> bool {
    crc32c::crc32c(&header[..52]).to_le_bytes() == header[52..]
}

/// Checks a frame header whose sum is right against the chain before it.
pub(crate) fn check_frame_header(
    header: &[u8; FRAME_HEADER],
    before: &Head,
) -> Result<Promise, &'static str> {
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if header[4..12] != before.seq.to_le_bytes() {
        return Err("its number does not follow the record before");
    }
    if header[12..44] != before.hash {
        return Err("its hash of the record before is another one");
    }
    if u32_at(44) != 0 {
        return Err("reserved bytes are not zero");
    }
    let length = u32_at(0) as usize;
    if !(MIN_PAYLOAD..=MAX_PAYLOAD).contains(&length) {
        return Err("its length is out of bounds");
    }
    Ok(Promise {
        length,
        crc: u32_at(48),
    })
}

fn finish(context: Context) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
