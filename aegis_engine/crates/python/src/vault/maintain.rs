//! Checking a vault, backing its keys up, asking what the machine does to it.

use std::path::PathBuf;

use aegis_vault::{FsckOptions, LogTrust};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::Value;

use super::audit::head;
use crate::convert::{json, object_id, to_python};
use crate::error::Result;
use crate::handle::Vault;
use crate::keys::KeyProvider;
use crate::progress::{BytesDone, Counts};

#[pymethods]
impl Vault {
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
        let mut counts = Counts::new(progress);
        let report = py.detach(|| {
            let mut tell = |done, all, bytes| counts.tell(&[done, all, bytes]);
            self.inner.scrub(sample, Some(&mut tell))
        })?;
        counts.done()?;
        Ok(json(py, &report)?)
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

    #[pyo3(signature = (object, *, threads=None, progress=None))]
    fn verify(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> Result<u64> {
        let id = object_id(object)?;
        let done_so_far = BytesDone::new(progress);
        let report = py.detach(|| {
            let mut tell = |done| done_so_far.tell(done);
            self.inner.verify_with(id, threads, Some(&mut tell))
        });
        Ok(done_so_far.judge(report)?.chunks)
    }
}

/// What the machine, and the folder at `path`, do to the promises of a vault.
#[pyfunction]
pub fn doctor(py: Python<'_>, path: PathBuf) -> Result<Bound<'_, PyAny>> {
    Ok(json(py, &py.detach(|| aegis_vault::doctor(&path)))?)
}

/// Seconds of our seal, aws-lc's, our open, aws-lc's; for `aegis vault bench`.
#[pyfunction]
pub fn bench_cipher(py: Python<'_>, chunk: usize, rounds: u32) -> Result<(f64, f64, f64, f64)> {
    let t = py.detach(|| aegis_vault::bench::cipher(chunk, rounds))?;
    Ok((t.seal, t.raw_seal, t.open, t.raw_open))
}

/// No dumps and no attaching, for the whole process.
#[pyfunction]
pub fn harden_process() -> PyResult<()> {
    Ok(aegis_memory::harden_process()?)
}
