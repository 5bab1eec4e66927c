//! Identities and rosters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aegis_folder::private;
use aegis_secagg::{ROSTER_MAX, RosterError, SignedRoster, Taken, roster_hash};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::convert::digest;
use crate::error::Result;

/// The private key of a node or an operator; the secret never becomes a Python object.
#[pyclass(frozen, module = "aegis_engine")]
pub struct Identity {
    pub inner: aegis_secagg::Identity,
}

#[pymethods]
impl Identity {
    /// A fresh one, in the new file `path` with mode 0600.
    #[staticmethod]
    fn create(py: Python<'_>, path: PathBuf) -> Result<Self> {
        let inner = aegis_secagg::Identity::generate()?;
        py.detach(|| private::create(&path, inner.to_text().as_bytes()))
            .map_err(|e| os_error(&e, path))?;
        Ok(Self { inner })
    }

    /// Reads the file `path`, which only its owner may read.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> Result<Self> {
        let shown = path.display().to_string();
        let text = match py.detach(|| private::read(&path, 1024)) {
            Ok(text) => text,
            Err(private::ReadError::OpenToOthers { mode }) => {
                let told = format!(
                    "identity {shown} is open to others (mode {mode:o}); run chmod 600 {shown}"
                );
                return Err(PyValueError::new_err(told).into());
            }
            Err(private::ReadError::Io(e)) => return Err(os_error(&e, path).into()),
        };
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let inner = aegis_secagg::Identity::from_text(text).ok_or_else(|| {
            PyValueError::new_err(format!(
                "{shown} is no identity; make one with `aegis identity new {shown}`"
            ))
        })?;
        Ok(Self { inner })
    }

    /// The verification key, 32 bytes.
    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner.public()?))
    }

    /// Signs `message` in `domain`, 64 bytes.
    fn sign<'py>(
        &self,
        py: Python<'py>,
        domain: &str,
        message: &[u8],
    ) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner.sign_in(domain, message)?))
    }
}

/// Whether `signature` is that of the identity `public` for `message` in `domain`.
#[pyfunction]
pub fn signature_holds(
    public: &[u8],
    domain: &str,
    message: &[u8],
    signature: &[u8],
) -> Result<bool> {
    let public = digest(public)?;
    Ok(aegis_secagg::signature_holds(
        &public, domain, message, signature,
    ))
}

/// Signs a roster; `members` are names by identity.
#[pyfunction]
#[pyo3(signature = (identity, *, serial, issued, expires, members))]
pub fn roster_sign(
    identity: &Identity,
    serial: u64,
    issued: u64,
    expires: u64,
    members: BTreeMap<Vec<u8>, String>,
) -> Result<String> {
    let members = members
        .into_iter()
        .map(|(key, name)| Ok((digest(&key)?, name)))
        .collect::<PyResult<_>>()?;
    let roster = SignedRoster {
        serial,
        issued,
        expires,
        members,
    };
    Ok(roster.sign(identity.inner.seed())?)
}

/// Reads a roster signed by `signer`. With `now`, refuses one that this node may not take after `last` (serial, hash).
#[pyfunction]
#[pyo3(signature = (text, signer, *, now=None, last=None))]
pub fn roster_open<'py>(
    py: Python<'py>,
    text: &str,
    signer: &[u8],
    now: Option<u64>,
    last: Option<(u64, Vec<u8>)>,
) -> Result<Bound<'py, PyDict>> {
    if text.len() > ROSTER_MAX {
        return Err(RosterError::Malformed {
            line: 1,
            reason: "it is larger than 4 MiB",
        }
        .into());
    }
    let roster = SignedRoster::open(text, &digest(signer)?)?;
    let hash = roster_hash(text);
    if let Some(now) = now {
        let last = match last {
            Some((serial, hash)) => Some(Taken {
                serial,
                hash: digest(&hash)?,
            }),
            None => None,
        };
        roster.take(hash, now, last)?;
    }
    let out = PyDict::new(py);
    out.set_item("serial", roster.serial)?;
    out.set_item("issued", roster.issued)?;
    out.set_item("expires", roster.expires)?;
    out.set_item("hash", PyBytes::new(py, &hash))?;
    let members = PyDict::new(py);
    for (identity, name) in &roster.members {
        members.set_item(PyBytes::new(py, identity), name)?;
    }
    out.set_item("members", members)?;
    Ok(out)
}

fn os_error(error: &std::io::Error, path: PathBuf) -> PyErr {
    PyOSError::new_err((error.raw_os_error(), error.to_string(), path))
}
