//! A tamper-evident, durable log: every decision of the engine is here before it has an effect.
//!
//! # Document format (version 1)
//!
//! A log is the file `<dir>/000001.log`. All integers are little-endian. CRC32C is Castagnoli (RFC 3720 appendix B.4).
//! A verifier needs only this page, CRC32C and SHA-256.
//!
//! ## File header, 64 bytes
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic, ASCII `AEGISLG1` |
//! | 8 | 4 | version, u32 = 1 |
//! | 12 | 32 | origin hash = SHA-256 of the origin string (UTF-8): which vault this log belongs to |
//! | 44 | 16 | zero |
//! | 60 | 4 | CRC32C of bytes 0..60 |
//!
//! ## Records, back to back from offset 64
//!
//! | offset in the record | bytes | content |
//! |---|---|---|
//! | 0 | 4 | payload length, u32, 2..=1 048 576 |
//! | 4 | 8 | seq, u64: 0, 1, 2, … without a gap |
//! | 12 | 32 | prev hash |
//! | 44 | 4 | reserved, u32 = 0 |
//! | 48 | 4 | CRC32C of the payload |
//! | 52 | 4 | CRC32C of the 52 bytes before |
//! | 56 | length | payload |
//!
//! The payload is one JSON object in canonical form: UTF-8, keys sorted by code point, no whitespace, no fractions or
//! exponents (integers in -2^63..2^64), `"` `\` and control characters escaped in the shortest way (`\n`, `\u001f`),
//! everything else literal. Python's `json.dumps(v, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`
//! writes the same bytes. Each object has a `"time"`: RFC 3339, UTC, milliseconds.
//!
//! ## Chain
//!
//! - `genesis = SHA-256(0x00 ‖ file header)`: the prev hash of record 0.
//! - `hash = SHA-256(0x01 ‖ seq as u64 LE ‖ prev hash ‖ payload)`: the prev hash of the record after it.
//! - The *head* of a log of `n` records is `n` and the hash of the last one (`genesis` when `n` is 0), written `n:hex`.
//!
//! The leading bytes 0x00 and 0x01 keep a header from ever being read as a record. A prefix of a chain is a valid
//! chain: cutting records off the end is found only by comparing with a head kept elsewhere (see [`verify()`]'s
//! `expect`), and so is rewriting everything from some record on with all sums and hashes made anew.
//!
//! ## Torn tail
//!
//! A crash in an append can leave the start of one record behind. These bytes were never acknowledged, so
//! [`Log::open`] cuts them and appends `{"bytes":n,"event":"recovery.truncated"}`. A tail is torn when what follows the
//! last whole record, after removing zeros at the end of the file, is
//! - shorter than a frame header (nothing but zeros included), or
//! - a valid frame header with a payload shorter than it says,
//!
//! and is no longer than one record can be. Everything else that does not check is tampering and is never repaired:
//! the log refuses to open. To [`verify()`] and [`read()`], which write nothing, a torn tail is an error, too.

mod append;
mod canonical;
mod cursor;
mod error;
pub mod event;
mod format;
mod head;
mod mark;
mod read;
mod scan;
mod time;
mod verify;

pub use append::Log;
pub use cursor::Cursor;
pub use error::AuditError;
pub use event::Event;
pub use format::MAX_PAYLOAD;
pub use head::{Head, ParseHeadError, Record};
pub use mark::Mark;
pub use read::{Records, read, read_from};
pub use time::utc;
pub use verify::{Report, verify};
