//! An opened table of either format.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};

use crate::csv::{Block, CsvOptions, CsvTable, Kind};
use crate::error::Result;
use crate::parquet::ParquetTable;
use crate::scan::{Format, STREAM_BYTES, aim};
use crate::schema::positions;
use crate::source::Source;

pub(crate) enum Inner {
    Parquet(Arc<ParquetTable>),
    Csv(CsvTable),
}

/// An opened table: schema and, where known, rows and blocks.
pub struct Table {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) inner: Inner,
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
}
