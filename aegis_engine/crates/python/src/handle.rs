//! The open vault as Python holds it. What it can do is in `vault/` and `data/`, by subject.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aegis_audit::{Cursor, Record};
use pyo3::prelude::*;

use crate::keys::KeyProvider;

/// Event, field, value.
pub type Asked = (String, String, String);

/// Where a search ended, and the newest record until there.
pub type Found = (Cursor, Option<Record>);

#[pyclass(frozen, module = "aegis_engine")]
pub struct Vault {
    pub inner: aegis_vault::Vault,
    key: Mutex<KeyProvider>,
    /// What was found in the log before, and where that search ended: the next one goes on there.
    pub found: Mutex<HashMap<Asked, Found>>,
}

impl Vault {
    pub fn with_key(inner: aegis_vault::Vault, key: KeyProvider) -> Self {
        Self {
            inner,
            key: Mutex::new(key),
            found: Mutex::default(),
        }
    }

    /// The provider it was opened with, or was rotated to.
    pub fn key(&self, py: Python<'_>) -> KeyProvider {
        self.key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_ref(py)
    }

    pub fn remember_key(&self, key: KeyProvider) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}
