//! Why a table cannot be read. No message holds a value of the table.

use crate::source::SourceError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TableError>;

/// What went wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Not of the format, or damaged before it was stored.
    #[error(
        "it cannot be read as {format}: {reason}; check the file it was stored from, or name another format"
    )]
    Unreadable {
        /// Format that was tried.
        format: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// A column that the table does not have.
    #[error("it has no column {column:?}; its columns are {known}")]
    NoColumn {
        /// Name asked for.
        column: String,
        /// Names it has, shortened.
        known: String,
    },
    /// A CSV field that is not of its column's type.
    #[error(
        "line {line}: the field of column {column:?} is no {kind}; correct the file, or give the column another type, such as Csv(types={{{column:?}: \"f64\"}}) or \"text\""
    )]
    Value {
        /// Counted from 1.
        line: u64,
        /// Name of the column.
        column: String,
        /// Expected type.
        kind: &'static str,
    },
    /// Bytes that are no text.
    #[error(
        "line {line}: the field of column {column:?} is not UTF-8; convert the file (from latin-1, for instance), then store it again"
    )]
    Encoding {
        /// Counted from 1.
        line: u64,
        /// Name of the column.
        column: String,
    },
    /// A quote that nothing closes: all that comes after it would be one field.
    #[error(
        "line {line}: a quote opens here, and nothing closes it; close or double it, or name another quote"
    )]
    Quote {
        /// Counted from 1.
        line: u64,
    },
    /// A CSV line that is no record of the table.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A feature of the format that is not supported.
    #[error("{what} is not supported; write the file without it")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// A row whose values have no place in one Arrow array.
    #[error(
        "row {row}: a text, byte string or list is too large for Arrow's 32-bit offsets ({reason}); write the column as a large type, or split the row"
    )]
    Large {
        /// Counted from 0, of the rows that are read.
        row: u64,
        /// What the decoder says.
        reason: String,
    },
    /// A date that its type cannot hold.
    #[error(
        "column {column:?} has dates out of range for nanoseconds (1677 to 2262); write them as TIMESTAMP in microseconds"
    )]
    Range {
        /// Name of the column.
        column: String,
    },
    /// Values that are missing where numbers have no way to say so.
    #[error(
        "column {column:?} has missing values, and its numbers have no way to say so; read it as Arrow, or as f64"
    )]
    Missing {
        /// Name of the column.
        column: String,
    },
    /// The request does not make sense.
    #[error("{what}")]
    Request {
        /// What, and what to do.
        what: String,
    },
    /// The system has no memory for a buffer.
    #[error("no memory for a buffer of {bytes} bytes; read fewer columns or smaller batches")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The source refused or failed.
    #[error(transparent)]
    Source(SourceError),
}

impl TableError {
    /// Stable code; a source's error has its own.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "AEG-V060",
            Self::NoColumn { .. } => "AEG-V061",
            Self::Value { .. } => "AEG-V062",
            Self::Encoding { .. } => "AEG-V088",
            Self::Line { .. } | Self::Quote { .. } => "AEG-V063",
            Self::Unsupported { .. } => "AEG-V064",
            Self::Large { .. } => "AEG-V086",
            Self::Range { .. } => "AEG-V087",
            Self::Missing { .. } => "AEG-V089",
            Self::Request { .. } => "AEG-V065",
            Self::Memory { .. } => "AEG-V066",
            Self::Source(_) => "AEG-V028",
        }
    }

    /// A decoder's message, kept to one short printable line.
    pub fn unreadable(format: &'static str, reason: &impl ToString) -> Self {
        let reason = reason.to_string();
        let reason = reason
            .chars()
            .take(160)
            .map(|c| {
                if c.is_ascii_graphic() || c == ' ' {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        Self::Unreadable { format, reason }
    }
}
