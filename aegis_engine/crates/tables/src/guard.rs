//! Decoders of foreign code on foreign bytes: a panic in one becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Result, TableError};

/// What a panic of a decoder is called.
pub const GAVE_UP: &str = "its structure is damaged (the decoder gave up)";

/// Runs `work`; none after a panic. Whatever it was working on must not be used again then.
pub fn attempted<T>(work: impl FnOnce() -> T) -> Option<T> {
    // The payload is dropped unread: it may quote the file.
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Runs `work`; whatever it was working on must not be used again after a panic.
pub fn guarded<T>(format: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    attempted(work).unwrap_or_else(|| Err(TableError::unreadable(format, &GAVE_UP)))
}
