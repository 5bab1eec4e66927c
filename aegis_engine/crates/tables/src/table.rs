//! An opened table of either format.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};

use crate::batches::{self, Batches};
use crate::csv::{Block, CsvOptions, CsvTable, Kind};
use crate::error::{Result, TableError};
use crate::parquet::ParquetTable;
use crate::rows::Rows;
use crate::schema::positions;
use crate::source::Source;

/// Rows of a batch, at most: its arrays must stay addressable.
const BATCH_MAX: usize = 1 << 24;

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

pub(crate) enum Inner {
    Parquet(Arc<ParquetTable>),
    Csv(CsvTable),
}

/// An opened table: schema and, where known, rows and blocks.
pub struct Table {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) inner: Inner,
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

impl Table {
    /// Opens a Parquet file by its footer. `materialize` is for tables of which not all rows may be read: see
    /// [`materialized`](crate::materialized).
    pub fn parquet(source: Arc<dyn Source>, materialize: bool) -> Result<Self> {
        let inner = Inner::Parquet(Arc::new(ParquetTable::open(
            Arc::clone(&source),
            materialize,
        )?));
        Ok(Self { source, inner })
    }

    /// Opens a CSV file by its first lines.
    pub fn csv(source: Arc<dyn Source>, options: CsvOptions) -> Result<Self> {
        let inner = Inner::Csv(CsvTable::open(Arc::clone(&source), options)?);
        Ok(Self { source, inner })
    }

    /// The format.
    pub fn format(&self) -> Format {
        match self.inner {
            Inner::Parquet(_) => Format::Parquet,
            Inner::Csv(_) => Format::Csv,
        }
    }

    /// All columns.
    pub fn schema(&self) -> &SchemaRef {
        match &self.inner {
            Inner::Parquet(table) => table.schema(),
            Inner::Csv(table) => table.schema(),
        }
    }

    /// The schema of `columns`, in that order.
    pub fn schema_of(&self, columns: Option<&[String]>) -> Result<SchemaRef> {
        let schema = self.schema();
        let places = positions(schema, columns)?;
        let fields: Vec<_> = places
            .iter()
            .map(|at| Arc::clone(&schema.fields()[*at]))
            .collect();
        Ok(Arc::new(Schema::new_with_metadata(
            fields,
            schema.metadata().clone(),
        )))
    }

    /// Types of the columns of a CSV file.
    pub fn kinds(&self) -> Option<&[Kind]> {
        match &self.inner {
            Inner::Parquet(_) => None,
            Inner::Csv(table) => Some(table.kinds()),
        }
    }

    /// Blocks of a CSV file, when known.
    pub fn csv_blocks(&self) -> Option<&[Block]> {
        match &self.inner {
            Inner::Parquet(_) => None,
            Inner::Csv(table) => table.blocks(),
        }
    }

    /// Rows of each block; `None` for a CSV file that was not [scanned](Self::scan).
    pub fn blocks(&self) -> Option<Vec<u64>> {
        match &self.inner {
            Inner::Parquet(table) => Some(table.groups().to_vec()),
            Inner::Csv(table) => table
                .blocks()
                .map(|all| all.iter().map(|block| block.rows).collect()),
        }
    }

    /// Rows in all, when known.
    pub fn rows(&self) -> Option<u64> {
        Some(self.blocks()?.iter().sum())
    }

    /// Finds the blocks of a CSV file, in one pass over it.
    pub fn scan(&self) -> Result<()> {
        match &self.inner {
            Inner::Parquet(_) => Ok(()),
            Inner::Csv(table) => table.scan(),
        }
    }

    /// Takes blocks of a CSV file that a [`Scanner`](crate::Scanner) found when the file was stored.
    pub fn set_blocks(&self, blocks: Vec<Block>) -> Result<()> {
        match &self.inner {
            Inner::Parquet(_) => Ok(()),
            Inner::Csv(table) => table.set_blocks(blocks),
        }
    }

    /// Rows of a batch that is about as large as a stream's batches should be: at least 65536, at most 2^20.
    pub fn batch_rows(&self, columns: Option<&[String]>) -> Result<usize> {
        const LEAST: usize = 1 << 16;
        const MOST: u64 = 1 << 20;
        let Inner::Parquet(table) = &self.inner else {
            return Ok(LEAST);
        };
        let places = positions(self.schema(), columns)?;
        let bytes: u64 = table
            .weights(&places, &(0..table.groups().len()))
            .iter()
            .sum();
        let rows = self.rows().unwrap_or(0).saturating_mul(aim(STREAM_BYTES)) / bytes.max(1);
        let rows = rows.clamp(LEAST as u64, MOST);
        // Groups in equal parts: a window is given back at the end of its column chunk, and few rows left over would keep
        // one of each column.
        let group = table.groups().iter().copied().max().unwrap_or(0).max(1);
        let even = if group <= rows {
            rows / group * group
        } else {
            group.div_ceil((group.saturating_add(rows / 2) / rows).max(1))
        };
        Ok(usize::try_from(even).unwrap_or(LEAST))
    }

    /// Reads. Nothing is decoded before the first batch is asked for, unless there are several threads.
    pub fn read(self: &Arc<Self>, scan: Scan) -> Result<Batches> {
        if !(1..=BATCH_MAX).contains(&scan.batch_rows) {
            let what = format!("a batch has 1 to {BATCH_MAX} rows, not {}", scan.batch_rows);
            return Err(TableError::Request { what });
        }
        let mut schema = self.schema_of(scan.columns.as_deref())?;
        let mut places = positions(self.schema(), scan.columns.as_deref())?;
        if let Some(some) = &scan.places {
            let none = |_| TableError::Request {
                what: "there is no such column".to_owned(),
            };
            schema = Arc::new(schema.project(some).map_err(none)?);
            places = some.iter().map(|at| places[*at]).collect();
        }
        let blocks = match (&scan.blocks, self.blocks()) {
            (None, known) => 0..known.map_or(0, |all| all.len()),
            (Some(range), Some(all)) if range.start <= range.end && range.end <= all.len() => {
                range.clone()
            }
            (Some(_), _) => {
                let what = "there is no such block; count them first".to_owned();
                return Err(TableError::Request { what });
            }
        };
        batches::start(self, schema, &places, blocks, scan)
    }
}
