//! The one place where engine errors become Python's exceptions of `aegis_engine.errors`.

use aegis_audit::AuditError;
use aegis_jail::JailError;
use aegis_noise::NoiseError;
use aegis_policy::bundle::KeepError;
use aegis_policy::{ConsentError, PermitError, PolicyError};
use aegis_secagg::{RosterError, SecAggError};
use aegis_vault::VaultError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Fault>;

/// Any error on its way to Python.
#[derive(Debug)]
pub enum Fault {
    Vault(VaultError),
    Policy(PolicyError),
    Permit(PermitError),
    Audit(AuditError),
    SecAgg(SecAggError),
    Roster(RosterError),
    Noise(NoiseError),
    Jail(JailError),
    Python(PyErr),
}

macro_rules! from {
    ($($variant:ident($kind:ty)),*) => {$(
        impl From<$kind> for Fault {
            fn from(error: $kind) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}
from!(
    Vault(VaultError),
    Policy(PolicyError),
    Permit(PermitError),
    Audit(AuditError),
    SecAgg(SecAggError),
    Roster(RosterError),
    Noise(NoiseError),
    Jail(JailError),
    Python(PyErr)
);

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        Python::attach(|py| match fault {
            Fault::Vault(e) => vault(py, &e),
            Fault::Policy(e) => policy(py, &e),
            Fault::Permit(e) => permit(py, &e),
            Fault::Audit(e) => audit(py, &e),
            Fault::SecAgg(e) => secagg(py, &e),
            Fault::Roster(e) => make(py, "RosterError", e.code(), &e.to_string()),
            Fault::Noise(e) => make(py, "AegisError", e.code(), &e.to_string()),
            Fault::Jail(e) => make(py, "JailError", e.code(), &e.to_string()),
            Fault::Python(e) => e,
        })
    }
}

fn make(py: Python<'_>, class: &str, code: &str, message: &str) -> PyErr {
    make_with(py, class, code, message, |_| Ok(()))
}

fn make_with(
    py: Python<'_>,
    class: &str,
    code: &str,
    message: &str,
    dress: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>,
) -> PyErr {
    let built = py
        .import("aegis_engine.errors")
        .and_then(|m| m.getattr(class))
        .and_then(|c| c.call1((message, code)))
        .and_then(|e| dress(&e).map(|()| e));
    match built {
        Ok(error) => PyErr::from_value(error),
        Err(broken) => PyRuntimeError::new_err(format!("[{code}] {message} (and {broken})")),
    }
}

fn vault(py: Python<'_>, e: &VaultError) -> PyErr {
    use VaultError as V;
    let class = match e {
        V::Permit(e) => return permit(py, e),
        V::Policy(e) => return policy(py, e),
        V::Audit(e) => return audit(py, e),
        V::WrongKeyLength { .. } => "WrongKeyLength",
        V::WrongKey { .. } | V::WrongProvider { .. } => "WrongKey",
        V::ProviderError { .. } => "KeyProviderError",
        V::KeyDestroyed { .. } => "KeyDestroyed",
        V::VaultDestroyed { .. } => "VaultDestroyed",
        V::ForkedProcess => "ForkedProcess",
        V::NoSpace { .. } => "NoSpace",
        V::NotAVault { .. } | V::NotFound { .. } => "NotAVault",
        V::AlreadyExists { .. } => "VaultExists",
        V::ObjectNotFound { .. } | V::SubjectNotFound => "ObjectNotFound",
        V::ObjectShredded { .. } => "ObjectShredded",
        V::HeaderTampered { .. }
        | V::ChunkAuthFailed { .. }
        | V::Truncated { .. }
        | V::TrailingData { .. }
        | V::TableMismatch { .. }
        | V::ObjectMissing { .. }
        | V::KeystoreCorrupt { .. }
        | V::KeystoreRollback { .. }
        | V::KeystoreStale { .. }
        | V::AboutDamaged { .. }
        | V::IntentForged { .. }
        | V::HeadForked { .. }
        | V::Unfit { .. }
        | V::AuditRollback { .. }
        | V::BlobAuthFailed { .. } => "VaultTampered",
        V::Table { .. } | V::TableFile { .. } => "TableError",
        V::Locked { .. } => "VaultLocked",
        V::InsufficientAssurance { .. } => "InsufficientAssurance",
        V::PermitRequired { .. } | V::Governed => "PermitRequired",
        _ => "VaultError",
    };
    make(py, class, e.code(), &e.to_string())
}

fn permit(py: Python<'_>, e: &PermitError) -> PyErr {
    let (class, code) = match e {
        PermitError::Expired { .. } => ("PermitExpired", "AEG-P007"),
        PermitError::Revoked { .. } => ("PermitRevoked", "AEG-P008"),
        PermitError::Scope { .. } => ("PermitScope", "AEG-P009"),
    };
    make(py, class, code, &e.to_string())
}

fn policy(py: Python<'_>, e: &PolicyError) -> PyErr {
    let (code, text) = (e.code(), e.to_string());
    match e {
        PolicyError::Denied {
            policies, advice, ..
        } => make_with(py, "PolicyDenied", code, &text, |error| {
            error.setattr("policies", pyo3::types::PyTuple::new(py, policies)?)?;
            error.setattr("advice", (advice.as_str(),))
        }),
        PolicyError::GateFailed { gates, .. } => {
            make_with(py, "GateFailed", code, &text, |error| {
                let mut all = Vec::new();
                for gate in gates {
                    let d = PyDict::new(py);
                    d.set_item("name", gate.name)?;
                    d.set_item("passed", gate.passed)?;
                    d.set_item("observed", &gate.observed)?;
                    d.set_item("limit", &gate.limit)?;
                    all.push(d);
                }
                error.setattr("detail", e.detail())?;
                error.setattr("gates", pyo3::types::PyTuple::new(py, all)?)
            })
        }
        PolicyError::InvalidBundle { .. } => make(py, "PolicyInvalid", code, &text),
        PolicyError::Audit(e) => audit(py, e),
        PolicyError::Permit(e) => permit(py, e),
        // Something about the records that decisions rest on is not what was written.
        PolicyError::Lineage { .. } => make(py, "VaultTampered", code, &text),
        PolicyError::Consent(ConsentError::RolledBack { .. }) => {
            make(py, "AuditTampered", code, &text)
        }
        _ => make(py, "PolicyError", code, &text),
    }
}

fn audit(py: Python<'_>, e: &AuditError) -> PyErr {
    let class = match e {
        AuditError::Tampered { .. } | AuditError::Torn { .. } | AuditError::Rollback { .. } => {
            "AuditTampered"
        }
        _ => "AuditError",
    };
    make(py, class, e.code(), &e.to_string())
}

fn secagg(py: Python<'_>, e: &SecAggError) -> PyErr {
    match e {
        SecAggError::NotEnoughClients { have, need } => {
            make_with(py, "NotEnoughClients", e.code(), &e.to_string(), |error| {
                error.setattr("have", have)?;
                error.setattr("need", need)
            })
        }
        _ => make(py, "SecAggError", e.code(), &e.to_string()),
    }
}

/// Why the policies of a vault were not kept beside it.
pub fn kept(error: KeepError) -> Fault {
    match error {
        KeepError::Io(source) => VaultError::Io {
            op: "copy policies to",
            path: "policy".into(),
            source,
        }
        .into(),
        KeepError::Bundle(error) => error.into(),
        KeepError::Changed { .. } => VaultError::BadRequest {
            what: error.to_string(),
        }
        .into(),
    }
}
