//! A permit, and the owner's.

use std::sync::Arc;

use aegis_vault::VaultError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::facts::{Columns, Facts};
use crate::convert::{action, object_id};
use crate::error::Result;
use crate::handle::Vault;

#[pyclass(frozen, module = "aegis_engine")]
pub struct Permit {
    pub inner: Arc<aegis_policy::Permit>,
    /// None on an owner's permit: nobody laid down anything.
    pub facts: Option<Facts>,
}

impl Permit {
    fn told(&self) -> Result<&Facts> {
        let what = "an owner's permit has no facts: the vault has no policy bundle, and the object may be no data set";
        let none = || VaultError::BadRequest { what: what.into() };
        Ok(self.facts.as_ref().ok_or_else(none)?)
    }
}

#[pymethods]
impl Permit {
    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }
    #[getter]
    fn object(&self) -> String {
        self.inner.object().to_string()
    }
    #[getter]
    fn action(&self) -> &'static str {
        self.inner.action().name()
    }
    #[getter]
    fn purpose(&self) -> &str {
        self.inner.purpose()
    }
    #[getter]
    fn rows(&self) -> u64 {
        self.inner.row_count()
    }
    #[getter]
    fn subjects(&self) -> u64 {
        self.inner.subjects()
    }
    #[getter]
    fn rows_per_subject_max(&self) -> u64 {
        self.inner.rows_per_subject_max()
    }
    #[getter]
    fn round(&self) -> u64 {
        self.inner.round()
    }
    #[getter]
    fn uses(&self) -> u64 {
        self.inner.uses()
    }
    #[getter]
    fn facts<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        Ok(self.told()?.terms(py)?)
    }
    #[getter]
    fn layout(&self) -> Result<Columns> {
        Ok(self.told()?.columns.clone())
    }
    fn __repr__(&self) -> String {
        let p = &self.inner;
        format!(
            "<Permit {} to {} {} rows for {:?}>",
            p.id(),
            p.action().name(),
            p.row_count(),
            p.purpose()
        )
    }
}

#[pymethods]
impl Vault {
    /// The owner's permit, on a vault without a policy bundle.
    #[pyo3(signature = (object, action_name="read"))]
    fn owner_permit(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        action_name: &str,
    ) -> Result<Permit> {
        let (id, action) = (object_id(object)?, action(action_name)?);
        Ok(Permit {
            inner: Arc::new(py.detach(|| self.inner.owner_permit(id, action))?),
            facts: None,
        })
    }

    /// The block of each permitted row, as little-endian u32.
    fn blocks<'py>(
        &self,
        py: Python<'py>,
        permit: &Permit,
        blocks: u32,
    ) -> Result<Bound<'py, PyBytes>> {
        let found = py.detach(|| self.inner.blocks(&permit.inner, blocks))?;
        let raw: Vec<u8> = found.iter().flat_map(|b| b.to_le_bytes()).collect();
        Ok(PyBytes::new(py, &raw))
    }

    /// Refuses a permit that has ended.
    fn admit(&self, permit: &Permit) -> Result<()> {
        Ok(self.inner.admit(&permit.inner)?)
    }
}
