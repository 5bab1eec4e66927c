//! What reads CSV may be put here, and nothing that knows Parquet.
//!
//! CSV (RFC 4180, with other delimiters and quotes on request): a header, types by column, records by line.

mod build;
mod infer;
mod kind;
mod scan;
mod split;
mod table;

pub use kind::Kind;
pub use scan::{Block, Scanner};
pub use table::{CsvBatches, CsvTable, once};

/// The byte order mark of UTF-8: it is none but at the first byte of a file.
const BOM: &[u8; 3] = b"\xef\xbb\xbf";

/// How the file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields that hold a delimiter, a quote or a line end; doubled inside.
    pub quote: u8,
    /// Whether the first line names the columns; without, they are `column_0`, `column_1`, ... A column without a name
    /// gets such a one, too, and the second `a` is `a_2`.
    pub header: bool,
    /// Fields that mean "no value", apart from the empty one.
    pub nulls: Vec<String>,
    /// Types of some or all columns, by name; the others are inferred.
    pub types: Vec<(String, Kind)>,
    /// Lines to infer types from, at most. The first 1000 are looked at whatever they weigh, the others within 1 MiB.
    pub infer_rows: usize,
    /// Bytes of the longest line that is read.
    pub longest_line: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: b'"',
            header: true,
            nulls: Vec::new(),
            types: Vec::new(),
            infer_rows: 10_000,
            longest_line: 1 << 20,
        }
    }
}

impl CsvOptions {
    fn core(&self) -> csv_core::Reader {
        let mut core = csv_core::ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quote(self.quote)
            .build();
        // It would take a byte order mark off at the start of every block. An empty line is passed over, and ends that.
        core.read_record(b"\n", &mut [0], &mut [0]);
        core
    }

    fn is_null(&self, field: &[u8]) -> bool {
        field.is_empty() || self.nulls.iter().any(|null| null.as_bytes() == field)
    }
}
