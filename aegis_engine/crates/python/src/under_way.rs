//! What is being written: one thread at a time uses it, and it is gone once it was finished or given up.

use std::sync::{Mutex, PoisonError};

use aegis_vault::VaultError;

use crate::error::{Fault, Result};

pub struct UnderWay<T>(Mutex<Option<T>>);

impl<T> UnderWay<T> {
    pub fn new(what: T) -> Self {
        Self(Mutex::new(Some(what)))
    }

    /// Takes it out: from here on it is closed.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn closed(&self) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_none()
    }

    /// # Errors
    /// [`VaultError::Closed`] once it was taken.
    pub fn with<R>(&self, run: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        run(held.as_mut().ok_or(Fault::Vault(VaultError::Closed))?)
    }
}
