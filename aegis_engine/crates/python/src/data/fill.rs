//! Columns of batches, put together into numpy arrays.

use std::sync::Arc;

use aegis_vault::VaultError;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use uuid::Uuid;

use super::arrow::ColumnBuffer;
use super::numpy::PartialColumn;
use crate::error::Result;

pub fn all(columns: usize) -> Vec<usize> {
    (0..columns).collect()
}

pub type Filled = Vec<(ColumnBuffer, String, usize, usize)>;

pub fn fill(
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
        .map(|field| PartialColumn::new(field.name(), field.data_type(), rows))
        .collect::<aegis_tables::Result<Vec<_>>>()
        .map_err(told)?;
    for batch in batches {
        let batch = batch?;
        for (column, at) in filling.iter_mut().zip(columns) {
            column.push(batch.column(*at)).map_err(told)?;
        }
    }
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let finish = |column: PartialColumn| {
        let (pages, dtype, values) = column.finish().map_err(told)?;
        Ok((pages.into(), dtype, values, rows))
    };
    filling.into_iter().map(finish).collect()
}

/// Batches with a schema of their own.
pub trait Schemed {
    fn schema(&self) -> SchemaRef;
}

impl Schemed for aegis_vault::TableBatches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema())
    }
}

/// One batch as the only one.
pub struct SingleBatch(pub Option<RecordBatch>, pub SchemaRef);

impl Iterator for SingleBatch {
    type Item = aegis_vault::Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl Schemed for SingleBatch {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.1)
    }
}

pub fn arrays(py: Python<'_>, names: Vec<String>, filled: Filled) -> Result<Bound<'_, PyDict>> {
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
