//! Parquet: the footer, then the column chunks asked for.

use std::ops::Range;
use std::sync::Arc;

use aegis_memory::Pages;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};

use crate::error::{Result, TableError};
use crate::guard::guarded;
use crate::rows::Rows;
use crate::schema::materialized;
use crate::source::Source;
use crate::window::{self, Fault, Reader, Windows};

const FORMAT: &str = "Parquet";
/// `PAR1` in front; length of the footer and `PAR1` behind.
const HEAD: u64 = 4;
const TAIL: usize = 8;
/// A footer larger than this is not read: real ones have kilobytes to a few megabytes.
const FOOTER_MAX: u64 = 256 << 20;

/// An opened Parquet file.
pub struct ParquetTable {
    source: Arc<dyn Source>,
    metadata: ArrowReaderMetadata,
    /// Rows of each row group.
    groups: Vec<u64>,
}

fn damaged(reason: &impl ToString) -> TableError {
    TableError::unreadable(FORMAT, reason)
}

impl ParquetTable {
    /// Reads the footer. With `materialize`, arrays will hold the values of their own rows only.
    pub fn open(source: Arc<dyn Source>, materialize: bool) -> Result<Self> {
        let footer = footer(&*source)?;
        guarded(FORMAT, || {
            let metadata =
                ParquetMetaDataReader::decode_metadata(&footer).map_err(|e| damaged(&e))?;
            let groups = counts(&metadata)?;
            let metadata = Arc::new(metadata);
            let load = |options| {
                ArrowReaderMetadata::try_new(Arc::clone(&metadata), options)
                    .map_err(|e| damaged(&e))
            };
            let mut loaded = load(ArrowReaderOptions::new())?;
            if materialize {
                let plain = Arc::new(materialized(loaded.schema()));
                loaded = load(ArrowReaderOptions::new().with_schema(plain))?;
            }
            Ok(Self {
                source,
                metadata: loaded,
                groups,
            })
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    pub fn groups(&self) -> &[u64] {
        &self.groups
    }

    /// Sealed bytes of each column in these row groups: what decoding it costs.
    pub fn weights(&self, columns: &[usize], groups: &Range<usize>) -> Vec<u64> {
        let all = self.metadata.metadata().row_groups();
        let weigh = |root: &usize| {
            let parts = all[groups.clone()]
                .iter()
                .flat_map(|group| leaves(&self.metadata, group, *root));
            parts
                .map(|(_, column)| u64::try_from(column.uncompressed_size()).unwrap_or(0))
                .sum()
        };
        columns.iter().map(weigh).collect()
    }

    /// Decodes `columns` (in ascending order) of `groups`, a window of the source a column.
    pub fn read(
        &self,
        columns: &[usize],
        groups: &Range<usize>,
        rows: Option<&Rows>,
        batch_rows: usize,
    ) -> Result<ParquetBatches> {
        guarded(FORMAT, || {
            let all = self.metadata.metadata().row_groups();
            let mut ranges = Vec::new();
            let mut windows = 0;
            for group in &all[groups.clone()] {
                let mut column = 0;
                for root in columns {
                    for (_, chunk) in leaves(&self.metadata, group, *root) {
                        ranges.push((byte_range(chunk)?, column));
                        column += 1;
                    }
                }
                windows = column;
            }
            let windows = Windows::new(Arc::clone(&self.source), ranges, windows)?;
            let fault = windows.fault();
            let mask =
                ProjectionMask::roots(self.metadata.parquet_schema(), columns.iter().copied());
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                Reader(Arc::new(windows)),
                self.metadata.clone(),
            )
            .with_projection(mask)
            .with_row_groups(groups.clone().collect())
            .with_batch_size(batch_rows);
            if let Some(rows) = rows {
                builder = builder.with_row_selection(self.selection(groups, rows)?);
            }
            let inner = builder.build().map_err(|e| failed(&fault, &e))?;
            Ok(ParquetBatches {
                inner: Some(inner),
                fault,
            })
        })
    }

    fn selection(&self, groups: &Range<usize>, rows: &Rows) -> Result<RowSelection> {
        let first: u64 = self.groups[..groups.start].iter().sum();
        let total: u64 = self.groups[groups.clone()].iter().sum();
        let fit = |n: u64| usize::try_from(n).map_err(|_| damaged(&"too many rows"));
        let runs = rows
            .within(first..first + total)
            .map(|run| Ok(fit(run.start - first)?..fit(run.end - first)?))
            .collect::<Result<Vec<_>>>()?;
        Ok(RowSelection::from_consecutive_ranges(
            runs.into_iter(),
            fit(total)?,
        ))
    }
}

/// Leaf columns of a column of the schema.
fn leaves<'m>(
    metadata: &'m ArrowReaderMetadata,
    group: &'m RowGroupMetaData,
    root: usize,
) -> impl Iterator<Item = (usize, &'m ColumnChunkMetaData)> {
    let schema = metadata.parquet_schema();
    group.columns().iter().enumerate().filter(move |(leaf, _)| {
        *leaf < schema.num_columns() && schema.get_column_root_idx(*leaf) == root
    })
}

/// Where a column chunk lies, from numbers that may be anything.
fn byte_range(chunk: &ColumnChunkMetaData) -> Result<Range<u64>> {
    let first = match chunk.dictionary_page_offset() {
        Some(dictionary) if dictionary > 0 => dictionary.min(chunk.data_page_offset()),
        _ => chunk.data_page_offset(),
    };
    let place = u64::try_from(first)
        .ok()
        .zip(u64::try_from(chunk.compressed_size()).ok());
    let range = place.and_then(|(start, len)| Some(start..start.checked_add(len)?));
    range.ok_or_else(|| damaged(&"a column chunk has no valid place"))
}

/// Rows of each row group; they must add up.
fn counts(metadata: &ParquetMetaData) -> Result<Vec<u64>> {
    let mut groups = Vec::with_capacity(metadata.num_row_groups());
    let mut total = 0_u64;
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows())
            .map_err(|_| damaged(&"a row group of less than no rows"))?;
        total = total
            .checked_add(rows)
            .ok_or_else(|| damaged(&"too many rows"))?;
        groups.push(rows);
    }
    if i64::try_from(total).ok() != Some(metadata.file_metadata().num_rows()) {
        return Err(damaged(&"its row groups do not add up to its rows"));
    }
    Ok(groups)
}

/// The bytes of the footer.
fn footer(source: &dyn Source) -> Result<Pages> {
    let room = source
        .len()
        .checked_sub(HEAD + TAIL as u64)
        .ok_or_else(|| damaged(&"it is too short"))?;
    let mut tail = [0; TAIL];
    source
        .read_at(HEAD + room, &mut tail)
        .map_err(TableError::Source)?;
    let (len, magic) = tail.split_at(4);
    match magic {
        b"PAR1" => {}
        b"PARE" => {
            return Err(TableError::Unsupported {
                what: "Parquet's own encryption".to_owned(),
            });
        }
        _ => return Err(damaged(&"it does not end as a Parquet file does")),
    }
    let len = u64::from(u32::from_le_bytes([len[0], len[1], len[2], len[3]]));
    if len > room.min(FOOTER_MAX) {
        return Err(damaged(
            &"its footer is longer than the file, or than 256 MiB",
        ));
    }
    let bytes = usize::try_from(len).unwrap_or(usize::MAX);
    let mut footer = Pages::new(bytes).map_err(|_| TableError::Memory { bytes })?;
    source
        .read_at(HEAD + room - len, &mut footer)
        .map_err(TableError::Source)?;
    Ok(footer)
}

/// The source's error when there was one, else the decoder's.
fn failed(fault: &Fault, error: &impl ToString) -> TableError {
    window::take(fault).unwrap_or_else(|| damaged(error))
}

/// Batches of some columns. Ends at the first error.
pub struct ParquetBatches {
    inner: Option<ParquetRecordBatchReader>,
    fault: Fault,
}

impl ParquetBatches {
    /// One batch, in the file's order of columns.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(mut reader) = self.inner.take() else {
            return Ok(None);
        };
        // On any error or panic the reader is gone.
        let next = guarded(FORMAT, || {
            let next = reader
                .next()
                .transpose()
                .map_err(|e| failed(&self.fault, &e))?;
            Ok(next.map(|batch| (batch, reader)))
        })?;
        Ok(next.map(|(batch, reader)| {
            self.inner = Some(reader);
            batch
        }))
    }
}
