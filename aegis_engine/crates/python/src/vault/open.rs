//! Making, opening and governing a vault.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_folder::private;
use aegis_policy::Bundle;
use aegis_vault::{Secret, VaultError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::{Result, kept};
use crate::handle::Vault;
use crate::keys::KeyProvider;
use crate::permits::Permit;

#[pymethods]
impl Vault {
    #[staticmethod]
    #[pyo3(signature = (path, key=None, *, key_file=None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
    ) -> Result<Self> {
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let inner = py.detach(|| aegis_vault::Vault::open_or_create(&path, &key.provider))?;
        Ok(Self::with_key(inner, key))
    }

    #[staticmethod]
    #[pyo3(signature = (path, key=None, *, key_file=None, make_key=false))]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
        make_key: bool,
    ) -> Result<Self> {
        if make_key {
            let Some(file) = &key_file else {
                return Err(PyValueError::new_err(
                    "make_key needs key_file, the path to write the new key to",
                )
                .into());
            };
            let key = Secret::<32>::random()?;
            private::create(file, key.expose()).map_err(|e| VaultError::ProviderError {
                reason: format!(
                    "cannot make key file {}: {e}; choose a new path in a folder you may write",
                    file.display()
                ),
            })?;
        }
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let inner = py.detach(|| aegis_vault::Vault::create(&path, &key.provider))?;
        Ok(Self::with_key(inner, key))
    }

    #[staticmethod]
    #[pyo3(signature = (path, key=None, *, key_file=None))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
    ) -> Result<Self> {
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let inner = py.detach(|| aegis_vault::Vault::open(&path, &key.provider))?;
        Ok(Self::with_key(inner, key))
    }

    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.inner.path().to_path_buf()
    }

    #[getter]
    fn epoch(&self) -> Result<u64> {
        Ok(self.inner.epoch()?)
    }

    #[getter]
    fn governance_reads(&self) -> u64 {
        self.inner.governance_reads()
    }

    #[getter]
    fn governed(&self) -> Result<bool> {
        Ok(self.inner.bundle_hash()?.is_some())
    }

    #[pyo3(signature = (name, *, replace=None))]
    fn govern(&self, py: Python<'_>, name: &str, replace: Option<&Permit>) -> Result<()> {
        let bundle = Bundle::named(name)?;
        let permit = replace.map(|permit| Arc::clone(&permit.inner));
        py.detach(|| {
            match permit {
                Some(permit) => self.inner.govern_replacing(&bundle, &permit)?,
                None => self.inner.govern(&bundle)?,
            }
            // A refused bundle leaves no copy.
            if name != "core" {
                let folder = self.inner.folder().place("policy");
                bundle.keep(Path::new(name), &folder).map_err(kept)?;
            }
            Ok(())
        })
    }

    fn __repr__(&self) -> String {
        format!(
            "<Vault {} at {}>",
            self.inner.id(),
            self.inner.path().display()
        )
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
