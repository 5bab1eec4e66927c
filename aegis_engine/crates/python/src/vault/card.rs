//! What a steward may see of data sets and people without reading a row.

use aegis_policy::DatasetFacts;
use aegis_vault::Amendment;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use uuid::Uuid;

use crate::convert::{json, object_id, to_json};
use crate::error::Result;
use crate::handle::Vault;

/// A data set, its terms as they shall be, the last day of use of its rows.
type Change<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyDict>>, Option<u32>);

fn amendment(
    dataset: &Bound<'_, PyAny>,
    facts: Option<&Bound<'_, PyDict>>,
    last_day: Option<u32>,
    reason: &str,
) -> Result<(Uuid, Amendment)> {
    let terms = |facts: &Bound<'_, PyDict>| -> PyResult<DatasetFacts> {
        serde_json::from_value(to_json(facts)?)
            .map_err(|e| PyValueError::new_err(format!("terms of the data set: {e}")))
    };
    let amendment = Amendment {
        facts: facts.map(terms).transpose()?,
        last_day,
        reason: reason.to_owned(),
    };
    Ok((object_id(dataset)?, amendment))
}

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
        let change = amendment(dataset, facts, last_day, reason)?;
        let mut amended = py.detach(|| self.inner.amend_together(&[change]))?;
        Ok(json(py, &amended.pop())?)
    }

    /// Changes the terms of several data sets, of all of them or of none; see the stub.
    #[pyo3(signature = (changes, *, reason=""))]
    fn amend_together<'py>(
        &self,
        py: Python<'py>,
        changes: Vec<Change<'py>>,
        reason: &str,
    ) -> Result<Bound<'py, PyAny>> {
        let changes = changes
            .iter()
            .map(|(dataset, facts, day)| amendment(dataset, facts.as_ref(), *day, reason))
            .collect::<Result<Vec<_>>>()?;
        let amended = py.detach(|| self.inner.amend_together(&changes))?;
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
