//! Writing tables: Parquet, a row group at a time.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Result, TableError};
use crate::guard::guarded;

/// Rows of a row group, at most: what a reader decodes in one piece.
const GROUP_ROWS: usize = 1 << 16;
/// Bytes of a row group, about, at most: it is held until it is complete.
const GROUP_BYTES: usize = 32 << 20;

/// Writes batches of one schema as a Parquet file. Pages are not compressed, and no statistics of values are kept.
pub struct Writer<W: Write + Send>(ArrowWriter<W>);

fn failed(error: &ParquetError) -> TableError {
    TableError::unreadable("Parquet", &format!("while it was written: {error}"))
}

impl<W: Write + Send> Writer<W> {
    /// Starts a file in `out`.
    pub fn new(out: W, schema: &SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
        writer.map(Self).map_err(|error| failed(&error))
    }

    /// Appends rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        guarded("Parquet", || self.0.write(batch).map_err(|e| failed(&e)))
    }

    /// Ends the file and gives back what it was written to.
    pub fn finish(self) -> Result<W> {
        self.0.into_inner().map_err(|error| failed(&error))
    }
}
