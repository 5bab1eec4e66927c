//! Key providers, Python's among them.

use std::path::PathBuf;
use std::time::Duration;

use aegis_vault::{
    Command, Destroyed, KeyProvider as Engine, Level, Passphrase, Pkcs11, Provider, ProviderKind,
    Secret, VaultError,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PySlice, PyTuple};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::convert::bytes;
use crate::error::Result;

/// Where a provider is, for another process: the name of the constructor and its arguments. Never a key.
pub type Location = Option<(&'static str, Py<PyTuple>)>;

/// A source of the vault's key.
#[pyclass(frozen, module = "aegis_engine")]
pub struct KeyProvider {
    pub provider: Provider,
    location: Location,
}

impl KeyProvider {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        let location = self
            .location
            .as_ref()
            .map(|(name, args)| (*name, args.clone_ref(py)));
        Self {
            provider: self.provider.clone(),
            location,
        }
    }

    fn secret(provider: Provider) -> Self {
        Self {
            provider,
            location: None,
        }
    }

    /// Key bytes, a provider, or a path: exactly one of them.
    pub fn from_arguments(
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
    ) -> Result<Self> {
        match (key, key_file) {
            (Some(key), None) => {
                if let Ok(provider) = key.cast::<Self>() {
                    return Ok(provider.get().clone_ref(py));
                }
                Self::raw(py, key)
            }
            (None, Some(path)) => Self::file(py, path),
            _ => Err(PyValueError::new_err(
                "give key=... (32 bytes, or a provider of aegis_engine.keys) or key_file=... (a path), one of them",
            )
            .into()),
        }
    }
}

#[pymethods]
impl KeyProvider {
    #[staticmethod]
    fn raw(py: Python<'_>, key: &Bound<'_, PyAny>) -> Result<Self> {
        let key = Zeroizing::new(bytes(py, key)?);
        Ok(Self::secret(Provider::raw(&key)?))
    }

    #[staticmethod]
    fn file(py: Python<'_>, path: PathBuf) -> Result<Self> {
        // Absolute, so that another process with another folder finds it.
        let path = std::path::absolute(&path).unwrap_or(path);
        Ok(Self {
            location: Some(("file", (&path,).into_pyobject(py)?.unbind())),
            provider: Provider::key_file(path),
        })
    }

    #[staticmethod]
    fn passphrase(py: Python<'_>, passphrase: &Bound<'_, PyAny>) -> Result<Self> {
        let text = match passphrase.extract::<String>() {
            Ok(text) => text.into_bytes(),
            Err(_) => bytes(py, passphrase)?,
        };
        Ok(Self::secret(Provider::new(Passphrase::new(
            Zeroizing::new(text),
        )?)))
    }

    #[staticmethod]
    fn descriptor(fd: i32) -> Self {
        Self::secret(Provider::descriptor(fd))
    }

    #[staticmethod]
    fn environment(py: Python<'_>, name: String) -> Result<Self> {
        Ok(Self {
            location: Some(("environment", (&name,).into_pyobject(py)?.unbind())),
            provider: Provider::environment(name),
        })
    }

    #[staticmethod]
    #[pyo3(signature = (argv, timeout=60.0))]
    fn command(py: Python<'_>, argv: Vec<String>, timeout: f64) -> Result<Self> {
        let limit = Duration::try_from_secs_f64(timeout)
            .map_err(|_| PyValueError::new_err("timeout is a number of seconds above 0"))?;
        let command = Command::new(argv.clone(), Some(limit))?;
        Ok(Self {
            provider: Provider::new(command),
            location: Some(("command", (argv, timeout).into_pyobject(py)?.unbind())),
        })
    }

    #[staticmethod]
    fn callback(py: Python<'_>, function: Py<PyAny>) -> Result<Self> {
        if !function.bind(py).is_callable() {
            return Err(
                PyTypeError::new_err("callback needs a function that gives 32 key bytes").into(),
            );
        }
        Ok(Self {
            location: Some(("callback", (&function,).into_pyobject(py)?.unbind())),
            provider: Provider::new(Callback(function)),
        })
    }

    #[staticmethod]
    fn kms(py: Python<'_>, service: Py<PyAny>) -> Result<Self> {
        for name in ["wrap", "unwrap", "destroy"] {
            if !service.bind(py).hasattr(name)? {
                let text = format!(
                    "a key service has the methods wrap, unwrap and destroy; {name} is missing"
                );
                return Err(PyTypeError::new_err(text).into());
            }
        }
        Ok(Self {
            location: Some(("kms", (&service,).into_pyobject(py)?.unbind())),
            provider: Provider::new(Kms(service)),
        })
    }

    #[staticmethod]
    fn pkcs11(module: PathBuf, token: String, pin: String) -> Self {
        let pin = Zeroizing::new(pin);
        Self::secret(Provider::new(Pkcs11::new(module, token, pin)))
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.provider.kind().name()
    }

    #[getter]
    fn level(&self) -> &'static str {
        self.provider.level().name()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyTuple>> {
        let Some((name, arguments)) = &self.location else {
            return Err(PyTypeError::new_err(
                "a key does not travel to another process: open the vault with a key file, an environment variable, a \
                 command or a callback (aegis_engine.keys), which only say where the key is",
            )
            .into());
        };
        let make = py.get_type::<Self>().getattr(*name)?;
        Ok((make, arguments).into_pyobject(py)?)
    }

    fn __repr__(&self) -> String {
        format!("<KeyProvider {:?}>", self.provider)
    }
}

fn failed(what: &str, error: &PyErr, py: Python<'_>) -> VaultError {
    let destroyed = py
        .import("aegis_engine.errors")
        .and_then(|errors| errors.getattr("KeyDestroyed"));
    if destroyed.is_ok_and(|kind| error.is_instance(py, &kind)) {
        return VaultError::KeyDestroyed {
            reason: error.value(py).to_string(),
        };
    }
    let kind = error
        .get_type(py)
        .name()
        .map_or_else(|_| "an error".to_owned(), |name| name.to_string());
    let said = error.value(py).to_string();
    VaultError::ProviderError {
        reason: format!("{what} failed: {kind}: {said}"),
    }
}

/// A function that gives the key, once an open.
#[derive(Debug)]
struct Callback(Py<PyAny>);

impl Engine for Callback {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Key
    }

    fn key(&self, _params: &[u8]) -> aegis_vault::Result<Secret<32>> {
        Python::attach(|py| {
            let given = self
                .0
                .call0(py)
                .and_then(|key| bytes(py, key.bind(py)))
                .map_err(|error| failed("the key callback", &error, py))?;
            Secret::from_slice(&Zeroizing::new(given))
        })
    }
}

/// A key management service: an object with `wrap`, `unwrap`, `destroy`.
#[derive(Debug)]
struct Kms(Py<PyAny>);

impl Engine for Kms {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kms
    }

    fn level(&self) -> Level {
        Level::Kms
    }

    fn key(&self, _params: &[u8]) -> aegis_vault::Result<Secret<32>> {
        Secret::from_slice(&[0; 32])
    }

    fn wrap(
        &self,
        vault: Uuid,
        epoch: u64,
        secret: &Secret<32>,
    ) -> aegis_vault::Result<Zeroizing<Vec<u8>>> {
        Python::attach(|py| {
            // A bytearray, so that this copy can be cleared; what the service's client copies is its own.
            let plain = PyByteArray::new(py, secret.expose());
            let wrapped = self
                .0
                .call_method1(py, "wrap", (vault.to_string(), epoch, &plain))
                .and_then(|blob| bytes(py, blob.bind(py)));
            let cleared =
                plain.set_item(PySlice::new(py, 0, 32, 1), PyByteArray::new(py, &[0; 32]));
            drop(cleared);
            wrapped
                .map(Zeroizing::new)
                .map_err(|error| failed("wrap of the key service", &error, py))
        })
    }

    fn unwrap(&self, vault: Uuid, epoch: u64, blob: &[u8]) -> aegis_vault::Result<Secret<32>> {
        Python::attach(|py| {
            let blob = pyo3::types::PyBytes::new(py, blob);
            let plain = self
                .0
                .call_method1(py, "unwrap", (vault.to_string(), epoch, blob))
                .and_then(|plain| bytes(py, plain.bind(py)))
                .map_err(|error| failed("unwrap of the key service", &error, py))?;
            Secret::from_slice(&Zeroizing::new(plain))
        })
    }

    fn destroy(&self, vault: Uuid, epoch: u64) -> aegis_vault::Result<Destroyed> {
        Python::attach(|py| {
            let said = self
                .0
                .call_method1(py, "destroy", (vault.to_string(), epoch))
                .and_then(|note| note.extract::<Option<String>>(py))
                .map_err(|error| failed("destroy of the key service", &error, py))?;
            Ok(Destroyed { note: said })
        })
    }
}
