//! Batches of a table.

use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use uuid::Uuid;

use super::arrow;
use super::fill::{SingleBatch, arrays, fill};
use super::schema::{names, numeric};
use crate::error::Result;

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

/// Some rows of a table.
#[pyclass(frozen, module = "aegis_engine")]
pub struct TableBatch {
    object: Uuid,
    inner: RecordBatch,
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
            let one = SingleBatch(Some(self.inner.clone()), schema);
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
