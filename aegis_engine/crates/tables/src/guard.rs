//! Decoders of foreign code on foreign bytes: a panic in one becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Result, TableError};

/// Runs `work`; whatever it was working on must not be used again after a panic.
pub fn guarded<T>(format: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The payload is dropped unread: it may quote the file.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(TableError::unreadable(
            format,
            &"its structure is damaged (the decoder gave up)",
        ))
    })
}
