//! What a vault has, by name and id.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::convert::{object_id, to_python};
use crate::error::Result;
use crate::handle::Vault;

fn info(o: aegis_vault::ObjectInfo) -> Value {
    json!({
        "id": o.id.to_string(), "name": o.name, "media_type": o.media_type, "subject": o.subject, "attrs": o.attrs,
        "created": o.created, "bytes": o.bytes, "chunks": o.chunks, "chunk_bytes": o.chunk_bytes,
    })
}

#[pymethods]
impl Vault {
    fn list<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let all = py.detach(|| self.inner.list())?;
        Ok(to_python(
            py,
            &Value::Array(all.into_iter().map(info).collect()),
        )?)
    }

    fn stat<'py>(&self, py: Python<'py>, object: &Bound<'_, PyAny>) -> Result<Bound<'py, PyAny>> {
        let id = object_id(object)?;
        let one = py.detach(|| self.inner.stat(id))?;
        Ok(to_python(py, &info(one))?)
    }

    /// Ids of everything stored, governance rows of data sets included.
    fn object_ids(&self, py: Python<'_>) -> Result<Vec<String>> {
        let all = py.detach(|| self.inner.list())?;
        Ok(all
            .into_iter()
            .flat_map(|mut o| [Some(o.id.to_string()), o.attrs.remove("aegis.rows")])
            .flatten()
            .collect())
    }

    /// Data sets of records: name to id.
    fn datasets(&self, py: Python<'_>) -> Result<BTreeMap<String, String>> {
        let sets = py.detach(|| self.inner.datasets())?;
        Ok(sets
            .into_iter()
            .map(|(name, id)| (name, id.to_string()))
            .collect())
    }

    /// The lineage of a data set: the key of its privacy ledger. The oldest where it has several.
    fn lineage(&self, py: Python<'_>, dataset: &str) -> Result<String> {
        let mut all = self.lineages(py, dataset)?;
        Ok(all.swap_remove(0))
    }

    /// All lineages whose budget a data set spends, the oldest first.
    fn lineages(&self, py: Python<'_>, dataset: &str) -> Result<Vec<String>> {
        Ok(py.detach(|| {
            let id = self.inner.find_dataset(dataset)?;
            self.inner.lineages(id)
        })?)
    }

    /// Names under which earlier versions kept the privacy ledger of a lineage.
    fn lineage_names(&self, py: Python<'_>, lineage: &str) -> Result<Vec<String>> {
        Ok(py.detach(|| self.inner.lineage_names(lineage))?)
    }

    fn rename(&self, py: Python<'_>, object: &Bound<'_, PyAny>, name: &str) -> Result<()> {
        let id = object_id(object)?;
        Ok(py.detach(|| self.inner.rename(id, name))?)
    }
}

/// A name in its one spelling: of a person, a purpose, a data set.
#[pyfunction]
pub fn normal_name(text: &str) -> Result<String> {
    let one = aegis_policy::words::normal(text).map_err(|flaw| {
        aegis_policy::PolicyError::from(aegis_policy::ConsentError::BadName { flaw })
    });
    Ok(one?)
}
