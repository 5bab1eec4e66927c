//! Tables: Parquet and CSV objects as Arrow streams, batches and numpy columns.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use aegis_policy::{Class, DatasetFacts, RowIndex};
use aegis_tables::{CsvOptions, Format, Kind};
use aegis_vault::{Meta, TableRequest, VaultError};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use uuid::Uuid;

use crate::arrow::{self, ColumnBuffer};
use crate::convert::to_json;
use crate::error::Result;
use crate::numbers::{Filling, dtype};
use crate::policy::Permit;
use crate::vault::{Vault, object_id, python_uuid};

/// More decoding threads than this are not taken unless asked for.
const THREADS: usize = 4;
/// Rows of a batch, unless asked for otherwise.
const BATCH: usize = 1 << 16;

fn format(name: Option<&str>) -> PyResult<Option<Format>> {
    let parse = |name: &str| {
        Format::parse(name).ok_or_else(|| {
            PyValueError::new_err(format!("{name:?} is no table format; take parquet or csv"))
        })
    };
    name.map(parse).transpose()
}

/// `aegis_engine.tables.Csv`: how a CSV file is written.
#[derive(FromPyObject)]
struct Csv {
    delimiter: String,
    quote: String,
    header: bool,
    nulls: Vec<String>,
    types: BTreeMap<String, String>,
    longest_line: usize,
}

impl Csv {
    fn options(self) -> PyResult<CsvOptions> {
        let byte = |what: &str, text: &str| match text.as_bytes() {
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err(PyValueError::new_err(format!(
                "{what} must be one ASCII character, not {text:?}"
            ))),
        };
        let kind = |(column, name): (String, String)| match Kind::parse(&name) {
            Some(kind) => Ok((column, kind)),
            None => Err(PyValueError::new_err(format!(
                "{name:?} is no type; take bool, i32, i64, f32, f64, date or text"
            ))),
        };
        Ok(CsvOptions {
            delimiter: byte("delimiter", &self.delimiter)?,
            quote: byte("quote", &self.quote)?,
            header: self.header,
            nulls: self.nulls,
            types: self.types.into_iter().map(kind).collect::<PyResult<_>>()?,
            longest_line: self.longest_line,
            ..CsvOptions::default()
        })
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
            format: self::format(format)?,
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

    /// Stores a Parquet or CSV file as a governed dataset; see the stub.
    #[pyo3(signature = (path, *, subjects, classes, facts, class_of=None, format=None, name=None, media_type="", attrs=None, csv=None))]
    fn store_table<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        subjects: Vec<String>,
        classes: Vec<(String, Option<u32>, bool)>,
        facts: &Bound<'_, PyDict>,
        class_of: Option<Vec<u16>>,
        format: Option<&str>,
        name: Option<String>,
        media_type: &str,
        attrs: Option<BTreeMap<String, String>>,
        csv: Option<Csv>,
    ) -> Result<Bound<'py, PyAny>> {
        let facts: DatasetFacts = serde_json::from_value(to_json(facts)?)
            .map_err(|e| PyValueError::new_err(format!("terms of the data set: {e}")))?;
        let format = self::format(format)?;
        let csv = csv.map(Csv::options).transpose()?.unwrap_or_default();
        let meta = Meta {
            name: name.unwrap_or_default(),
            media_type: media_type.to_owned(),
            subject: None,
            attrs: attrs.unwrap_or_default(),
        };
        let class = |(basis, delete_after, special)| Class {
            basis,
            delete_after,
            special,
        };
        let id = py.detach(|| -> Result<_> {
            let subjects = self.inner.persons(&subjects)?;
            let index = RowIndex {
                classes: classes.into_iter().map(class).collect(),
                class_of: class_of.unwrap_or_else(|| vec![0; subjects.len()]),
                subjects,
            };
            Ok(self
                .inner
                .store_table(&path, meta, format, &csv, &index, &facts)?)
        })?;
        python_uuid(py, id)
    }
}

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

fn names(schema: &Schema) -> Vec<String> {
    schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

/// Names and positions of the columns that hold numbers. A name that is there twice gets a number, as in a CSV header.
fn numeric(schema: &Schema) -> (Vec<String>, Vec<usize>) {
    let fields = schema.fields().iter().enumerate();
    aegis_tables::once(names(schema))
        .into_iter()
        .zip(fields)
        .filter(|(_, (_, field))| dtype(field.data_type()).is_some())
        .map(|(name, (at, _))| (name, at))
        .unzip()
}

fn all(columns: usize) -> Vec<usize> {
    (0..columns).collect()
}

type Filled = Vec<(ColumnBuffer, String, usize, usize)>;

fn fill(
    object: Uuid,
    batches: impl Iterator<Item = aegis_vault::Result<RecordBatch>> + Schemed,
    columns: &[usize],
    rows: u64,
) -> Result<Filled> {
    let told = |source| VaultError::Table { object, source };
    let schema = batches.schema();
    let fields: Vec<_> = columns.iter().map(|at| schema.field(*at)).collect();
    let mut filling = fields
        .iter()
        .map(|field| Filling::new(field.name(), field.data_type(), rows))
        .collect::<aegis_tables::Result<Vec<_>>>()
        .map_err(told)?;
    for batch in batches {
        let batch = batch?;
        for (column, at) in filling.iter_mut().zip(columns) {
            column.push(batch.column(*at)).map_err(told)?;
        }
    }
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let finish = |column: Filling| {
        let (pages, dtype, values) = column.finish().map_err(told)?;
        Ok((pages.into(), dtype, values, rows))
    };
    filling.into_iter().map(finish).collect()
}

/// Batches with a schema of their own.
trait Schemed {
    fn schema(&self) -> SchemaRef;
}

impl Schemed for aegis_vault::TableBatches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema())
    }
}

/// One batch as the only one.
struct One(Option<RecordBatch>, SchemaRef);

impl Iterator for One {
    type Item = aegis_vault::Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl Schemed for One {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.1)
    }
}

fn arrays(py: Python<'_>, names: Vec<String>, filled: Filled) -> Result<Bound<'_, PyDict>> {
    let numpy = py.import("numpy")?;
    let out = PyDict::new(py);
    for (name, (buffer, dtype, values, rows)) in names.into_iter().zip(filled) {
        let buffer = Bound::new(py, buffer)?;
        // numpy reads nothing from an empty buffer.
        let flat = if buffer.len()? == 0 {
            numpy.call_method1("empty", (0, dtype))?
        } else {
            numpy.call_method1("frombuffer", (buffer, dtype))?
        };
        let array = if values == 1 {
            flat
        } else {
            flat.call_method1("reshape", ((rows, values),))?
        };
        out.set_item(name, array)?;
    }
    Ok(out)
}

/// Iterates over batches.
#[pyclass(frozen, module = "aegis_engine")]
pub struct TableBatches {
    inner: Mutex<aegis_vault::TableBatches>,
}

impl From<aegis_vault::TableBatches> for TableBatches {
    fn from(inner: aegis_vault::TableBatches) -> Self {
        Self {
            inner: Mutex::new(inner),
        }
    }
}

#[pymethods]
impl TableBatches {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Result<Option<TableBatch>> {
        let (object, next) = py.detach(|| {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            (inner.id(), inner.next_batch())
        });
        Ok(next?.map(|inner| TableBatch { object, inner }))
    }
}

/// Some rows of a table.
#[pyclass(frozen, module = "aegis_engine")]
pub struct TableBatch {
    object: Uuid,
    inner: RecordBatch,
}

#[pymethods]
impl TableBatch {
    #[getter]
    fn columns(&self) -> Vec<String> {
        names(&self.inner.schema())
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.inner.num_rows()
    }

    fn __len__(&self) -> usize {
        self.inner.num_rows()
    }

    fn to_numpy<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let schema = self.inner.schema();
        let (names, columns) = numeric(&schema);
        let filled = py.detach(|| {
            let one = One(Some(self.inner.clone()), schema);
            fill(self.object, one, &columns, self.inner.num_rows() as u64)
        })?;
        arrays(py, names, filled)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::schema(py, &self.inner.schema())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        arrow::array(py, &self.inner)
    }
}

/// Names and types of columns.
#[pyclass(frozen, module = "aegis_engine")]
pub struct TableSchema {
    inner: SchemaRef,
}

#[pymethods]
impl TableSchema {
    #[getter]
    fn names(&self) -> Vec<String> {
        names(&self.inner)
    }

    /// Arrow's names of the types.
    #[getter]
    fn types(&self) -> Vec<String> {
        let fields = self.inner.fields().iter();
        fields.map(|field| field.data_type().to_string()).collect()
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::schema(py, &self.inner)
    }

    fn __repr__(&self) -> String {
        let columns = self.names().into_iter().zip(self.types());
        let columns: Vec<String> = columns
            .map(|(name, kind)| format!("{name}: {kind}"))
            .collect();
        format!("<TableSchema {}>", columns.join(", "))
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TableReader>()?;
    m.add_class::<TableBatches>()?;
    m.add_class::<TableBatch>()?;
    m.add_class::<TableSchema>()
}
