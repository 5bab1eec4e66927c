//! Vaults: names, keys, shredding, care.

use std::path::PathBuf;

use aegis_vault::{FsckOptions, Level, LogTrust, ShredReceipt};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use crate::audit::head;
use crate::convert::to_python;
use crate::error::Result;
use crate::keys::KeyProvider;
use crate::vault::{Vault, object_id, python_uuid};

pub fn level(name: Option<&str>) -> Result<Option<Level>> {
    let parse = |name: &str| {
        Level::parse(name).ok_or_else(|| {
            PyValueError::new_err(format!(
                "{name:?} is no level; take logical, ratcheted-file, hardware or kms"
            ))
        })
    };
    Ok(name.map(parse).transpose()?)
}

pub fn json<'py>(py: Python<'py>, value: &impl serde::Serialize) -> Result<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value)
        .map_err(|e| PyValueError::new_err(format!("not representable: {e}")))?;
    Ok(to_python(py, &value)?)
}

fn receipt<'py>(py: Python<'py>, receipt: &ShredReceipt) -> Result<Bound<'py, PyAny>> {
    json(py, receipt)
}

/// Calls a Python function from the engine; its first error is kept and raised afterwards.
pub struct Teller {
    callback: Option<Py<PyAny>>,
    failed: Option<PyErr>,
}

impl Teller {
    pub fn new(callback: Option<Py<PyAny>>) -> Self {
        Self {
            callback,
            failed: None,
        }
    }

    pub fn tell(&mut self, arguments: &[u64]) {
        if let Some(callback) = &self.callback
            && self.failed.is_none()
        {
            self.failed = Python::attach(|py| {
                let arguments = pyo3::types::PyTuple::new(py, arguments)?;
                callback.call1(py, arguments)
            })
            .err();
        }
    }

    pub fn done(self) -> PyResult<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

#[pymethods]
impl Vault {
    fn rename(&self, py: Python<'_>, object: &Bound<'_, PyAny>, name: &str) -> Result<()> {
        let id = object_id(object)?;
        Ok(py.detach(|| self.inner.rename(id, name))?)
    }

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
        let mut teller = Teller::new(progress);
        let new = py.detach(|| {
            self.inner
                .reencrypt(id, Some(&mut |done| teller.tell(&[done])))
        })?;
        teller.done()?;
        python_uuid(py, new)
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

    #[getter]
    fn shred_level(&self) -> &'static str {
        self.inner.shred_level().name()
    }

    fn backup_keystore(&self, py: Python<'_>, path: PathBuf, recovery: &KeyProvider) -> Result<()> {
        Ok(py.detach(|| self.inner.backup_keystore(&path, &recovery.provider))?)
    }

    #[staticmethod]
    #[pyo3(signature = (path, backup, recovery, key=None, *, key_file=None, expect=None, accept_lost_log=false))]
    fn restore_keystore(
        py: Python<'_>,
        path: PathBuf,
        backup: PathBuf,
        recovery: &KeyProvider,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
        expect: Option<(u64, Vec<u8>)>,
        accept_lost_log: bool,
    ) -> Result<Self> {
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let trust = LogTrust {
            expect: head(expect)?,
            accept_lost: accept_lost_log,
        };
        let inner = py.detach(|| {
            aegis_vault::Vault::restore_keystore(
                &path,
                &backup,
                &recovery.provider,
                &key.provider,
                trust,
            )
        })?;
        Ok(Self::with_key(inner, key))
    }

    #[pyo3(signature = (sample=1.0, *, progress=None))]
    fn scrub<'py>(
        &self,
        py: Python<'py>,
        sample: f64,
        progress: Option<Py<PyAny>>,
    ) -> Result<Bound<'py, PyAny>> {
        let mut teller = Teller::new(progress);
        let report = py.detach(|| {
            let mut tell = |done, all, bytes| teller.tell(&[done, all, bytes]);
            self.inner.scrub(sample, Some(&mut tell))
        })?;
        teller.done()?;
        json(py, &report)
    }

    #[staticmethod]
    #[pyo3(signature = (path, key=None, *, key_file=None, repair=false, accept_older_keystore=false))]
    fn fsck<'py>(
        py: Python<'py>,
        path: PathBuf,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
        repair: bool,
        accept_older_keystore: bool,
    ) -> Result<Bound<'py, PyAny>> {
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let options = FsckOptions {
            repair,
            accept_older_keystore,
        };
        let report = py.detach(|| aegis_vault::Vault::fsck(&path, &key.provider, options))?;
        let mut shown = serde_json::to_value(&report)
            .map_err(|e| PyValueError::new_err(format!("not representable: {e}")))?;
        shown["clean"] = Value::Bool(report.clean());
        Ok(to_python(py, &shown)?)
    }

    /// Where the vault is and where its key is; never the key.
    fn __reduce__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let open = py.get_type::<Self>().getattr("open")?;
        let path = std::path::absolute(self.inner.path())
            .unwrap_or_else(|_| self.inner.path().to_path_buf());
        let key = Py::new(py, self.key(py))?;
        // Refuses here, with its own remedy, when the key cannot travel.
        key.call_method0(py, "__reduce__")?;
        Ok((open, (path, key)).into_pyobject(py)?.into_any())
    }
}

/// What the machine, and the folder at `path`, do to the promises of a vault.
#[pyfunction]
fn doctor(py: Python<'_>, path: PathBuf) -> Result<Bound<'_, PyAny>> {
    json(py, &py.detach(|| aegis_vault::doctor(&path)))
}

/// Seconds of our seal, aws-lc's, our open, aws-lc's; for `aegis vault bench`.
#[pyfunction]
fn bench_cipher(py: Python<'_>, chunk: usize, rounds: u32) -> Result<(f64, f64, f64, f64)> {
    let t = py.detach(|| aegis_vault::bench::cipher(chunk, rounds))?;
    Ok((t.seal, t.raw_seal, t.open, t.raw_open))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(bench_cipher, m)?)?;
    m.add_function(wrap_pyfunction!(doctor, m)?)
}
