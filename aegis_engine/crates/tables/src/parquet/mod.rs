//! What reads Parquet may be put here, and nothing that knows CSV.
//!
//! Parquet: the footer, then the column chunks asked for.

mod footer;
mod int96;
mod read;
mod steps;
mod thrift;
mod window;

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

pub use self::read::ParquetBatches;
use self::steps::Load;
use crate::error::{Result, TableError};
use crate::guard::guarded;
use crate::rows::Rows;
use crate::schema::{materialized, without_dictionaries_of_nulls};
use crate::source::Source;

const FORMAT: &str = "Parquet";

/// An opened Parquet file.
pub struct ParquetTable {
    source: Arc<dyn Source>,
    metadata: ArrowReaderMetadata,
    /// The same with microseconds for INT96, where the schema has nanoseconds.
    far: Option<ArrowReaderMetadata>,
    /// Rows of each row group.
    groups: Vec<u64>,
}

fn damaged(reason: &impl ToString) -> TableError {
    TableError::unreadable(FORMAT, reason)
}

impl ParquetTable {
    /// Reads the footer. With `materialize`, arrays will hold the values of their own rows only.
    pub fn open(source: Arc<dyn Source>, materialize: bool) -> Result<Self> {
        guarded(FORMAT, || {
            let metadata = Arc::new(footer::load(&*source)?);
            let groups = counts(&metadata)?;
            let load = |options| {
                ArrowReaderMetadata::try_new(Arc::clone(&metadata), options)
                    .map_err(|e| damaged(&e))
            };
            let with = |schema| load(ArrowReaderOptions::new().with_schema(Arc::new(schema)));
            let mut loaded = load(ArrowReaderOptions::new())?;
            if materialize {
                loaded = with(materialized(loaded.schema()))?;
            } else if let Some(schema) = without_dictionaries_of_nulls(loaded.schema()) {
                loaded = with(schema)?;
            }
            let far = int96::to_microseconds(loaded.schema(), loaded.parquet_schema());
            let mut far = far.map(with).transpose()?;
            if !footer::by_arrow(&metadata) {
                loaded = far.take().unwrap_or(loaded);
            }
            Ok(Self {
                source,
                metadata: loaded,
                far,
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

    /// Bytes of the arrays of each column in these row groups, about: what decoding it costs.
    pub fn weights(&self, columns: &[usize], groups: &Range<usize>) -> Vec<u64> {
        let weigh = |root: &usize| {
            let loads = groups.clone().flat_map(|at| self.loads(at, *root));
            loads.fold(0_u64, |sum, load| sum.saturating_add(load.likely))
        };
        columns.iter().map(weigh).collect()
    }

    fn loads(&self, group: usize, root: usize) -> impl Iterator<Item = Load> {
        let rows = self.groups[group];
        let about = &self.metadata.metadata().row_groups()[group];
        let kind = self.schema().field(root).data_type();
        leaves(&self.metadata, about, root).map(move |(_, chunk)| steps::load(chunk, rows, kind))
    }

    /// Decodes `columns` (in ascending order) of `groups`, a window of the source a column, in steps of at most `most` rows
    /// and about `room` bytes.
    pub fn read(
        self: &Arc<Self>,
        columns: &[usize],
        groups: &Range<usize>,
        rows: Option<&Rows>,
        (most, room): (usize, u64),
    ) -> Result<ParquetBatches> {
        guarded(FORMAT, || {
            for group in self.filled(groups) {
                self.supported(group, columns)?;
            }
            ParquetBatches::new(self, columns, groups, rows, (most, room))
        })
    }

    /// Row groups with rows: the places that writers note for the columns of others mean nothing.
    fn filled(&self, groups: &Range<usize>) -> impl Iterator<Item = usize> {
        groups.clone().filter(|at| self.groups[*at] > 0)
    }

    fn supported(&self, group: usize, columns: &[usize]) -> Result<()> {
        let about = &self.metadata.metadata().row_groups()[group];
        for root in columns {
            for (_, chunk) in leaves(&self.metadata, about, *root) {
                if chunk.compression() == Compression::LZO {
                    let name = self.schema().field(*root).name();
                    return Err(TableError::Unsupported {
                        what: format!("LZO, the compression of column {name:?},"),
                    });
                }
            }
        }
        Ok(())
    }

    /// What a decoder's message comes to.
    fn undecodable(&self, reason: &str) -> TableError {
        let short = ["EOF", "fill whole buffer"]; // by where in a page the bytes end
        if short.iter().any(|end| reason.contains(end))
            && footer::cuts_dictionaries(self.metadata.metadata())
        {
            return TableError::Unsupported {
                what: "a column chunk that leaves out the header of its dictionary (PARQUET-816, parquet-mr before 1.2.9)"
                    .to_owned(),
            };
        }
        damaged(&reason)
    }

    /// Those of `columns` whose nanoseconds are checked.
    fn checked(&self, columns: &[usize]) -> Vec<usize> {
        let Some(far) = &self.far else {
            return Vec::new();
        };
        let differ = |at: &usize| far.schema().field(*at) != self.schema().field(*at);
        columns.iter().copied().filter(differ).collect()
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
    let first = chunk
        .dictionary_page_offset()
        .unwrap_or_else(|| chunk.data_page_offset());
    let place = u64::try_from(first)
        .ok()
        .zip(u64::try_from(chunk.compressed_size()).ok());
    let range = place.and_then(|(start, len)| Some(start..start.checked_add(len)?));
    range.ok_or_else(|| damaged(&"a column chunk has no valid place"))
}

/// Rows of each row group. What the file says of all its rows together is not asked: old writers count otherwise, and
/// readers go by the groups.
fn counts(metadata: &ParquetMetaData) -> Result<Vec<u64>> {
    let mut groups = Vec::with_capacity(metadata.num_row_groups());
    let mut total = 0_i64;
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows())
            .map_err(|_| damaged(&"a row group of less than no rows"))?;
        total = total
            .checked_add(group.num_rows())
            .ok_or_else(|| damaged(&"too many rows"))?;
        groups.push(rows);
    }
    Ok(groups)
}
