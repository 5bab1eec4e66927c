//! What a steward may see of data sets and people without reading a row.

use aegis_policy::DatasetFacts;
use aegis_vault::Amendment;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{json, object_id, to_json};
use crate::error::Result;
use crate::handle::Vault;

#[pymethods]
impl Vault {
    fn card<'py>(&self, py: Python<'py>, dataset: &Bound<'_, PyAny>) -> Result<Bound<'py, PyAny>> {
        let id = object_id(dataset)?;
        let card = py.detach(|| self.inner.card(id))?;
        Ok(json(py, &card)?)
    }

    #[pyo3(signature = (dataset, *, facts=None, last_day=None, reason=""))]
    fn amend<'py>(
        &self,
        py: Python<'py>,
        dataset: &Bound<'_, PyAny>,
        facts: Option<&Bound<'_, PyDict>>,
        last_day: Option<u32>,
        reason: &str,
    ) -> Result<Bound<'py, PyAny>> {
        let id = object_id(dataset)?;
        let terms = |facts: &Bound<'_, PyDict>| -> PyResult<DatasetFacts> {
            serde_json::from_value(to_json(facts)?)
                .map_err(|e| PyValueError::new_err(format!("terms of the data set: {e}")))
        };
        let amendment = Amendment {
            facts: facts.map(terms).transpose()?,
            last_day,
            reason: reason.to_owned(),
        };
        let amended = py.detach(|| self.inner.amend(id, &amendment))?;
        Ok(json(py, &amended)?)
    }

    fn consent_of<'py>(&self, py: Python<'py>, subject: &str) -> Result<(u64, Bound<'py, PyAny>)> {
        let (rows, said) = py.detach(|| self.inner.consent_of(subject))?;
        Ok((rows, json(py, &said)?))
    }

    fn held_out(&self, py: Python<'_>, subjects: Vec<String>, share: f64) -> Result<Vec<bool>> {
        Ok(py.detach(|| self.inner.held_out(&subjects, share))?)
    }
}
