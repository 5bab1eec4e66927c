//! Columns of a table.

use arrow_schema::{Schema, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::arrow;
use super::numpy::dtype;

/// Names and types of columns.
#[pyclass(frozen, module = "aegis_engine")]
pub struct TableSchema {
    pub inner: SchemaRef,
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

pub fn names(schema: &Schema) -> Vec<String> {
    schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

/// Names and positions of the columns that hold numbers. A name that is there twice gets a number, as in a CSV header.
pub fn numeric(schema: &Schema) -> (Vec<String>, Vec<usize>) {
    let fields = schema.fields().iter().enumerate();
    aegis_tables::once(names(schema))
        .into_iter()
        .zip(fields)
        .filter(|(_, (_, field))| dtype(field.data_type()).is_some())
        .map(|(name, (at, _))| (name, at))
        .unzip()
}
