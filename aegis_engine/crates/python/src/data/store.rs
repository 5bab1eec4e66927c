//! Storing data sets: rows with their people, classes and terms.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aegis_policy::{Class, DatasetFacts, RowIndex};
use aegis_vault::{Column, Dtype, Meta, RecordSchema};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::csv::{self, Csv};
use crate::buffer::Bytes;
use crate::convert::{python_uuid, to_json};
use crate::error::Result;
use crate::handle::Vault;

/// By purpose: people who have consent now and had none, people from whom it was withheld.
type Consents = Vec<(String, u64, u64)>;

#[pymethods]
impl Vault {
    #[pyo3(signature = (name, schema, data, subjects, classes, facts, class_of=None))]
    fn store_records(
        &self,
        py: Python<'_>,
        name: &str,
        schema: Vec<(String, String, u32)>,
        data: &Bound<'_, PyAny>,
        subjects: Vec<String>,
        classes: Vec<(String, Option<u32>, bool)>,
        facts: &Bound<'_, PyDict>,
        class_of: Option<Vec<u16>>,
    ) -> Result<String> {
        let none = Vec::new();
        self.store_records_granting(
            py, name, schema, data, subjects, classes, facts, class_of, none,
        )
        .map(|(id, _)| id)
    }

    /// As `store_records`, with consent of everybody who never withdrew it.
    #[pyo3(signature = (name, schema, data, subjects, classes, facts, class_of=None, *, grant))]
    fn store_records_granting(
        &self,
        py: Python<'_>,
        name: &str,
        schema: Vec<(String, String, u32)>,
        data: &Bound<'_, PyAny>,
        subjects: Vec<String>,
        classes: Vec<(String, Option<u32>, bool)>,
        facts: &Bound<'_, PyDict>,
        class_of: Option<Vec<u16>>,
        grant: Vec<String>,
    ) -> Result<(String, Consents)> {
        let data = Bytes::of(data)?;
        let facts: DatasetFacts = serde_json::from_value(to_json(facts)?)
            .map_err(|e| PyValueError::new_err(format!("terms of the data set: {e}")))?;
        let columns = schema
            .into_iter()
            .map(|(name, dtype, count)| {
                let dtype = Dtype::parse(&dtype).ok_or_else(|| {
                    PyValueError::new_err(format!(
                        "{dtype:?} is no dtype; take f32, f64, i64, i32 or u8"
                    ))
                })?;
                Ok(Column { name, dtype, count })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let (id, granted) = py.detach(|| -> Result<_> {
            let subjects = self.inner.persons(&subjects)?;
            let index = RowIndex {
                classes: classes
                    .into_iter()
                    .map(|(basis, delete_after, special)| Class {
                        basis,
                        delete_after,
                        special,
                    })
                    .collect(),
                class_of: class_of.unwrap_or_else(|| vec![0; subjects.len()]),
                subjects,
            };
            Ok(self.inner.store_records_granting(
                Meta::named(name),
                &RecordSchema { columns },
                data.as_slice(),
                &index,
                &facts,
                &grant,
            )?)
        })?;
        let told = granted
            .into_iter()
            .map(|g| (g.purpose, g.granted, g.withheld));
        Ok((id.to_string(), told.collect()))
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
        let format = csv::format(format)?;
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
        Ok(python_uuid(py, id)?)
    }
}
