//! What to read of a table: its format, its columns, rows and blocks, and how much at once.

use std::ops::Range;

use crate::rows::Rows;

/// Bytes of the arrays of a batch, at most, unless a single row has more.
pub const BATCH_BYTES: u64 = 64 << 20;

/// The same for a consumer that takes the whole stream: arrays of some MiB get huge pages, and whole column chunks are
/// read in one go.
pub const STREAM_BYTES: u64 = 384 << 20;

/// Parts of the bytes that rows are counted for: room for marks of missing values, and for what is heavier than average.
const AIM: (u64, u64) = (3, 4);

/// What is aimed at, so that few batches must be cut.
pub fn aim(bytes: u64) -> u64 {
    bytes / AIM.1 * AIM.0
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
}

impl Format {
    /// The name used in options and schemas.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }

    /// The format of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Parquet, Self::Csv]
            .into_iter()
            .find(|format| format.name() == name)
    }

    /// By media type, by the first and last bytes, by the end of the name. The first bytes alone say nothing: `PAR1` is a
    /// gene, and the first column of some CSV file.
    pub fn detect(media_type: &str, name: &str, head: &[u8], tail: &[u8]) -> Option<Self> {
        let ends = |end: &str| {
            name.len() > end.len()
                && name.as_bytes()[name.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
        };
        let framed = (head == b"PAR1" && tail == b"PAR1") || (head == b"PARE" && tail == b"PARE");
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        // Media types do not depend on case (RFC 2045 §5.1).
        match media_type.to_ascii_lowercase().as_str() {
            "application/vnd.apache.parquet" | "application/x-parquet" => Some(Self::Parquet),
            "text/csv" => Some(Self::Csv),
            _ if framed => Some(Self::Parquet),
            _ if ends(".parquet") || ends(".pq") => Some(Self::Parquet),
            _ if ends(".csv") => Some(Self::Csv),
            _ => None,
        }
    }
}

/// What to read of a table.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Columns, in the order they are to come in; all when `None`.
    pub columns: Option<Vec<String>>,
    /// Of these columns, the ones to read, by their position: two columns may have one name. All when `None`.
    pub places: Option<Vec<usize>>,
    /// Rows that may be read, by their number in the table; all when `None`.
    pub rows: Option<Rows>,
    /// Blocks to read; all when `None`.
    pub blocks: Option<Range<usize>>,
    /// Rows of a batch, at most.
    pub batch_rows: usize,
    /// Bytes of the arrays of a batch, at most, unless a single row has more. A scan holds up to four batches.
    pub batch_bytes: u64,
    /// Threads that decode Parquet columns, at most one a column. CSV is read by one.
    pub threads: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            columns: None,
            places: None,
            rows: None,
            blocks: None,
            batch_rows: 1 << 16,
            batch_bytes: BATCH_BYTES,
            threads: 1,
        }
    }
}
