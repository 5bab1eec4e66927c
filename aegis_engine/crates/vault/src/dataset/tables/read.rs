//! Reading tables: only the permitted columns of only the permitted rows become arrays that leave the vault.

use std::sync::Arc;

use aegis_policy::{Permit, PermitError, Scope};
use aegis_tables::{BATCH_BYTES, Batches, Format, Rows, STREAM_BYTES, Scan, Table, TableError};
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::dataset::tables::open::{TableRequest, detect, fault, laid_out, reopen};
use crate::dataset::tables::source::ObjectSource;
use crate::error::{Result, VaultError};
use crate::format::meta::ROWS_ATTR;
use crate::object::reader::OpenObject;
use crate::vault::Vault;

/// A table under a permit. `Send + Sync`.
///
/// # Guarantees
/// - Every read of the object and every batch redeems the permit again.
/// - Columns that the permit or the request leaves out are not decoded; of Parquet, not even their byte ranges are asked for
///   (a chunk of the object that they share with other columns is decrypted inside the engine, and cleared).
/// - Under a permit for rows, arrays hold values of these rows only: no dictionary or page of others hangs on to them.
pub struct TableReader {
    object: Uuid,
    table: Arc<Table>,
    columns: Option<Vec<String>>,
    /// Of these columns, those that are read.
    places: Option<Vec<usize>>,
    rows: Option<Rows>,
    schema: SchemaRef,
}

/// Record batches of a table.
pub struct TableBatches {
    object: Uuid,
    inner: Batches,
}

impl Vault {
    /// Opens a Parquet or CSV object under a permit: its rows and columns, or those of them that the request names.
    pub fn table(
        &self,
        permit: &Arc<Permit>,
        object: Uuid,
        request: TableRequest,
    ) -> Result<TableReader> {
        let source = Arc::new(ObjectSource::new(OpenObject::open(
            &self.inner,
            permit,
            object,
        )?));
        let failed = |error| fault(object, error);
        let about = self.stat(object)?;
        let stored = about.attrs.contains_key(ROWS_ATTR);
        let stored = stored.then(|| self.dataset(object)).transpose()?;
        let stored = stored.as_deref();
        let stored = stored.and_then(|dataset| Some((dataset, laid_out(dataset)?)));
        let dataset = stored.map(|(dataset, _)| dataset);
        let (columns, rows) = permitted(permit, object, &request, dataset)?;
        let table = if let Some((_, schema)) = stored {
            request
                .fits(schema)
                .map_err(|what| failed(TableError::Request { what }))?;
            // Whoever wrote the governance rows said how the table is to be read; a caller must not shift its rows.
            reopen(object, source, schema, rows.is_some())?
        } else {
            detect(source, &about, request).map_err(failed)?
        };
        let schema = table.schema_of(columns.as_deref()).map_err(failed)?;
        Ok(TableReader {
            object,
            table: Arc::new(table),
            columns,
            places: None,
            rows,
            schema,
        })
    }
}

/// The columns and rows that the permit covers and the request names; `None` is all.
fn permitted(
    permit: &Permit,
    object: Uuid,
    request: &TableRequest,
    stored: Option<&Dataset>,
) -> Result<(Option<Vec<String>>, Option<Rows>)> {
    let scope = |what: String| PermitError::Scope {
        permit: permit.id(),
        what,
    };
    Ok(match permit.scope() {
        Scope::Whole => (request.columns.clone(), None),
        Scope::Rows {
            rows,
            columns: permitted,
        } => {
            let dataset = stored.ok_or_else(|| VaultError::NotRecords {
                object,
                reason: "its governance rows are not those of a table".to_owned(),
            })?;
            if rows
                .iter()
                .next_back()
                .is_some_and(|last| last >= dataset.rows)
            {
                return Err(scope("rows this dataset does not have".to_owned()).into());
            }
            let columns = request.columns.clone().unwrap_or_else(|| permitted.clone());
            if let Some(other) = columns.iter().find(|column| !permitted.contains(column)) {
                return Err(scope(format!("column {other:?}")).into());
            }
            (
                Some(columns),
                Some(rows.iter().map(u64::from).collect::<Rows>()),
            )
        }
    })
}

impl TableReader {
    /// The object.
    pub fn id(&self) -> Uuid {
        self.object
    }

    /// Parquet or CSV.
    pub fn format(&self) -> Format {
        self.table.format()
    }

    /// Columns that are read, in their order.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows that are read; `None` for a CSV object whose lines were not counted yet ([`blocks`](Self::blocks) does).
    pub fn rows(&self) -> Option<u64> {
        match &self.rows {
            Some(rows) => Some(rows.count()),
            None => self.table.rows(),
        }
    }

    /// Rows that are read of each block: a row group of Parquet, a run of lines of CSV. Counts the lines of a CSV object
    /// the first time.
    pub fn blocks(&self) -> Result<Vec<u64>> {
        self.table.scan().map_err(|e| fault(self.object, e))?;
        let all = self.table.blocks().unwrap_or_default();
        let Some(rows) = &self.rows else {
            return Ok(all);
        };
        let mut first = 0;
        let within = |count: u64| {
            let permitted = rows.count_within(first..first + count);
            first += count;
            permitted
        };
        Ok(all.into_iter().map(within).collect())
    }

    /// The same table with other columns of it, in that order: what is not asked for is not decoded.
    #[must_use]
    pub fn only(&self, places: &[usize]) -> Self {
        let fields: Vec<_> = places
            .iter()
            .map(|at| Arc::clone(&self.schema.fields()[*at]))
            .collect();
        Self {
            object: self.object,
            table: Arc::clone(&self.table),
            columns: self.columns.clone(),
            places: Some(places.to_vec()),
            rows: self.rows.clone(),
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// Reads all of it, in batches of at most `batch_rows` rows and [`BATCH_BYTES`] bytes, with up to `threads` threads.
    pub fn batches(&self, batch_rows: usize, threads: usize) -> Result<TableBatches> {
        self.read(None, (batch_rows, BATCH_BYTES), threads)
    }

    /// Reads all of it for a consumer that takes the whole stream: larger batches, of as many rows as are good for the
    /// file unless `batch_rows` says how many.
    pub fn stream(&self, batch_rows: Option<usize>, threads: usize) -> Result<TableBatches> {
        let best = || {
            let rows = self.table.batch_rows(self.columns.as_deref());
            rows.map_err(|e| fault(self.object, e))
        };
        let rows = batch_rows.map_or_else(best, Ok)?;
        self.read(None, (rows, STREAM_BYTES), threads)
    }

    /// Reads one block.
    pub fn block(&self, at: usize, batch_rows: usize, threads: usize) -> Result<TableBatches> {
        self.table.scan().map_err(|e| fault(self.object, e))?;
        let block = at..at.saturating_add(1);
        self.read(Some(block), (batch_rows, BATCH_BYTES), threads)
    }

    fn read(
        &self,
        blocks: Option<std::ops::Range<usize>>,
        (batch_rows, batch_bytes): (usize, u64),
        threads: usize,
    ) -> Result<TableBatches> {
        let scan = Scan {
            columns: self.columns.clone(),
            places: self.places.clone(),
            rows: self.rows.clone(),
            blocks,
            batch_rows,
            batch_bytes,
            threads,
        };
        let inner = self.table.read(scan).map_err(|e| fault(self.object, e))?;
        Ok(TableBatches {
            object: self.object,
            inner,
        })
    }
}

impl TableBatches {
    /// The object.
    pub fn id(&self) -> Uuid {
        self.object
    }

    /// Schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        self.inner.schema()
    }

    /// The next batch, after the permit was redeemed again; `None` at the end and after an error.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        self.inner.next_batch().map_err(|e| fault(self.object, e))
    }
}

impl Iterator for TableBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
