//! Changing keys and giving data up.

use std::path::PathBuf;

use aegis_vault::ShredReceipt;
use pyo3::prelude::*;
use uuid::Uuid;

use crate::convert::{json, level, object_id, python_uuid};
use crate::error::Result;
use crate::handle::Vault;
use crate::keys::KeyProvider;
use crate::progress::Counts;

fn receipt<'py>(py: Python<'py>, receipt: &ShredReceipt) -> Result<Bound<'py, PyAny>> {
    Ok(json(py, receipt)?)
}

#[pymethods]
impl Vault {
    #[pyo3(signature = (key=None, *, key_file=None))]
    fn rotate(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
    ) -> Result<u64> {
        let new = if key.is_none() && key_file.is_none() {
            None
        } else {
            Some(KeyProvider::from_arguments(py, key, key_file)?)
        };
        let provider = new.as_ref().map(|new| &new.provider);
        let epoch = py.detach(|| self.inner.rotate(provider))?;
        if let Some(new) = new {
            self.remember_key(new);
        }
        Ok(epoch)
    }

    #[pyo3(signature = (object, *, progress=None))]
    fn reencrypt<'py>(
        &self,
        py: Python<'py>,
        object: &Bound<'_, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> Result<Bound<'py, PyAny>> {
        let id = object_id(object)?;
        let mut progress = Counts::new(progress);
        let new = py.detach(|| {
            self.inner
                .reencrypt(id, Some(&mut |done| progress.tell(&[done])))
        })?;
        progress.done()?;
        Ok(python_uuid(py, new)?)
    }

    #[pyo3(signature = (object, *, require=None))]
    fn shred<'py>(
        &self,
        py: Python<'py>,
        object: &Bound<'_, PyAny>,
        require: Option<&str>,
    ) -> Result<Bound<'py, PyAny>> {
        let (id, level) = (object_id(object)?, level(require)?);
        receipt(py, &py.detach(|| self.inner.shred(id, level))?)
    }

    #[pyo3(signature = (objects, *, require=None))]
    fn shred_many<'py>(
        &self,
        py: Python<'py>,
        objects: Vec<Bound<'_, PyAny>>,
        require: Option<&str>,
    ) -> Result<Bound<'py, PyAny>> {
        let ids = objects
            .iter()
            .map(object_id)
            .collect::<PyResult<Vec<Uuid>>>()?;
        let level = level(require)?;
        receipt(py, &py.detach(|| self.inner.shred_many(&ids, level))?)
    }

    #[pyo3(signature = (subject, *, require=None))]
    fn shred_subject<'py>(
        &self,
        py: Python<'py>,
        subject: &str,
        require: Option<&str>,
    ) -> Result<Bound<'py, PyAny>> {
        let level = level(require)?;
        receipt(py, &py.detach(|| self.inner.shred_subject(subject, level))?)
    }

    #[pyo3(signature = (*, require=None))]
    fn destroy<'py>(&self, py: Python<'py>, require: Option<&str>) -> Result<Bound<'py, PyAny>> {
        let level = level(require)?;
        receipt(py, &py.detach(|| self.inner.destroy(level))?)
    }

    #[pyo3(signature = (subject, *, require=None))]
    fn erase_person<'py>(
        &self,
        py: Python<'py>,
        subject: &str,
        require: Option<&str>,
    ) -> Result<Bound<'py, PyAny>> {
        let level = level(require)?;
        let receipt = py.detach(|| self.inner.erase_person(subject, level))?;
        Ok(json(py, &receipt)?)
    }

    #[getter]
    fn shred_level(&self) -> &'static str {
        self.inner.shred_level().name()
    }
}
