//! Tables: Parquet and CSV objects as Arrow streams, batches and numpy columns.

use std::sync::Arc;
use std::thread::available_parallelism;

use aegis_vault::TableRequest;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use super::arrow;
use super::batches::TableBatches;
use super::csv::{self, Csv};
use super::fill::{all, arrays, fill};
use super::schema::{TableSchema, names, numeric};
use crate::convert::object_id;
use crate::error::Result;
use crate::handle::Vault;
use crate::permits::Permit;

/// More decoding threads than this are not taken unless asked for.
const THREADS: usize = 4;

/// Rows of a batch, unless asked for otherwise.
const BATCH: usize = 1 << 16;

/// A table under a permit.
#[pyclass(frozen, module = "aegis_engine")]
pub struct TableReader {
    inner: aegis_vault::TableReader,
    batch_rows: Option<usize>,
    threads: usize,
}

/// Batches as Arrow's stream interface wants them: errors are text that starts with the code.
struct Stream(aegis_vault::TableBatches);

impl Iterator for Stream {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let told = |error: aegis_vault::VaultError| {
            ArrowError::ExternalError(format!("[{}] {error}", code(&error)).into())
        };
        self.0.next_batch().map_err(told).transpose()
    }
}

/// Permits have codes of their own.
fn code(error: &aegis_vault::VaultError) -> &'static str {
    use aegis_policy::PermitError as P;
    match error {
        aegis_vault::VaultError::Permit(P::Expired { .. }) => "AEG-P007",
        aegis_vault::VaultError::Permit(P::Revoked { .. }) => "AEG-P008",
        aegis_vault::VaultError::Permit(P::Scope { .. }) => "AEG-P009",
        other => other.code(),
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.schema())
    }
}

#[pymethods]
impl TableReader {
    #[getter]
    fn format(&self) -> &'static str {
        self.inner.format().name()
    }

    #[getter]
    fn schema(&self) -> TableSchema {
        TableSchema {
            inner: Arc::clone(self.inner.schema()),
        }
    }

    #[getter]
    fn columns(&self) -> Vec<String> {
        names(self.inner.schema())
    }

    #[getter]
    fn num_rows(&self) -> Option<u64> {
        self.inner.rows()
    }

    /// Rows of each block.
    fn blocks(&self, py: Python<'_>) -> Result<Vec<u64>> {
        Ok(py.detach(|| self.inner.blocks())?)
    }

    /// Batches of one block.
    fn block(&self, py: Python<'_>, at: usize) -> Result<TableBatches> {
        Ok(py
            .detach(|| self.inner.block(at, self.rows_or(BATCH), self.threads))?
            .into())
    }

    /// Columns of numbers of one block.
    fn block_to_numpy<'py>(&self, py: Python<'py>, at: usize) -> Result<Bound<'py, PyDict>> {
        let rows = py.detach(|| self.inner.blocks())?;
        let rows = rows.get(at).copied().unwrap_or_default();
        let (names, columns) = numeric(self.inner.schema());
        let filled = py.detach(|| {
            // Text and other columns that no array is made of are not even decoded.
            let some = self.inner.only(&columns);
            let batches = some.block(at, self.rows_or(BATCH), self.threads)?;
            fill(self.inner.id(), batches, &all(columns.len()), rows)
        })?;
        arrays(py, names, filled)
    }

    /// Columns of numbers of all of it.
    fn to_numpy<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let (names, columns) = numeric(self.inner.schema());
        let filled = py.detach(|| {
            let some = self.inner.only(&columns);
            let rows = match self.inner.rows() {
                Some(rows) => rows,
                None => self.inner.blocks()?.iter().sum(),
            };
            let batches = some.batches(self.rows_or(BATCH), self.threads)?;
            fill(self.inner.id(), batches, &all(columns.len()), rows)
        })?;
        arrays(py, names, filled)
    }

    fn __iter__(&self, py: Python<'_>) -> Result<TableBatches> {
        Ok(py
            .detach(|| self.inner.batches(self.rows_or(BATCH), self.threads))?
            .into())
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::schema(py, self.inner.schema())
    }

    /// A new pass over the table. What a consumer would rather have is up to the consumer.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'_, PyAny>>,
    ) -> Result<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let batches =
            py.detach(|| -> Result<_> { Ok(self.inner.stream(self.batch_rows, self.threads)?) })?;
        Ok(arrow::stream(py, Box::new(Stream(batches)))?)
    }

    fn __repr__(&self) -> String {
        let rows = self
            .inner
            .rows()
            .map_or_else(|| "?".to_owned(), |rows| rows.to_string());
        let columns = self.inner.schema().fields().len();
        format!(
            "<TableReader {} of {rows} rows, {columns} columns, object {}>",
            self.format(),
            self.inner.id()
        )
    }
}

impl TableReader {
    fn rows_or(&self, rows: usize) -> usize {
        self.batch_rows.unwrap_or(rows)
    }
}

#[pymethods]
impl Vault {
    /// Opens a table; see the stub.
    #[pyo3(signature = (object, *, format=None, columns=None, batch_rows=None, permit=None, threads=None, csv=None))]
    fn table(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        format: Option<&str>,
        columns: Option<Vec<String>>,
        batch_rows: Option<usize>,
        permit: Option<&Permit>,
        threads: Option<usize>,
        csv: Option<Csv>,
    ) -> Result<TableReader> {
        let id = object_id(object)?;
        let request = TableRequest {
            format: csv::format(format)?,
            columns,
            csv: csv.map(Csv::options).transpose()?,
        };
        let inner = py.detach(|| -> Result<_> {
            let permit = match permit {
                Some(permit) => Arc::clone(&permit.inner),
                None => Arc::new(self.inner.owner_permit(id, aegis_policy::Action::Read)?),
            };
            Ok(self.inner.table(&permit, id, request)?)
        })?;
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(TableReader {
            inner,
            batch_rows,
            threads: threads.unwrap_or(cores.min(THREADS)).max(1),
        })
    }
}
