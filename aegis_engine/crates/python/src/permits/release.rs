//! An update that may leave.

use std::collections::BTreeMap;

use aegis_vault::VaultError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::float_bytes;
use crate::error::Result;

/// An update that passed every gate; made only by [`ComplianceEngine::gate`].
#[pyclass(frozen, module = "aegis_engine")]
pub struct Release {
    pub inner: aegis_policy::Release,
}

#[pymethods]
impl Release {
    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }
    #[getter]
    fn weight(&self) -> u64 {
        self.inner.weight()
    }
    #[getter]
    fn gates(&self) -> Vec<(String, bool, String, String)> {
        let row = |g: &aegis_policy::GateResult| {
            (
                g.name.to_owned(),
                g.passed,
                g.observed.clone(),
                g.limit.clone(),
            )
        };
        self.inner.gates().iter().map(row).collect()
    }
    /// The metrics in clear; refused when they were released for secure aggregation only.
    fn metrics(&self) -> Result<BTreeMap<String, i64>> {
        self.in_clear()?;
        Ok(self.inner.metrics().clone())
    }
    /// The update in clear; refused when it was released for secure aggregation only.
    fn update<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        self.in_clear()?;
        Ok(PyBytes::new(py, &float_bytes(self.inner.update())))
    }
}

impl Release {
    fn in_clear(&self) -> Result<()> {
        if self.inner.secure_aggregation() {
            let what = "this was released for secure aggregation; it leaves only masked";
            return Err(VaultError::BadRequest { what: what.into() }.into());
        }
        Ok(())
    }
}
