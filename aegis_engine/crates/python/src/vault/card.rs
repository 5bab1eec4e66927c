//! What a steward may see of data sets and people without reading a row.

use pyo3::prelude::*;

use crate::convert::{json, object_id};
use crate::error::Result;
use crate::handle::Vault;

#[pymethods]
impl Vault {
    fn card<'py>(&self, py: Python<'py>, dataset: &Bound<'_, PyAny>) -> Result<Bound<'py, PyAny>> {
        let id = object_id(dataset)?;
        let card = py.detach(|| self.inner.card(id))?;
        Ok(json(py, &card)?)
    }

    fn consent_of<'py>(&self, py: Python<'py>, subject: &str) -> Result<(u64, Bound<'py, PyAny>)> {
        let (rows, said) = py.detach(|| self.inner.consent_of(subject))?;
        Ok((rows, json(py, &said)?))
    }

    fn held_out(&self, py: Python<'_>, subjects: Vec<String>, share: f64) -> Result<Vec<bool>> {
        Ok(py.detach(|| self.inner.held_out(&subjects, share))?)
    }
}
