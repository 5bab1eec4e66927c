//! How far long work has come, told to a Python function.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::error::Result;

/// Calls back with the bytes done; an exception stops the work and is raised afterwards.
pub struct BytesDone {
    callback: Option<Py<PyAny>>,
    failed: Mutex<Option<PyErr>>,
    /// Bytes done when signals were last looked at.
    seen: AtomicU64,
}

/// Signals are looked at once in so many bytes: each look waits for the interpreter.
const LOOK: u64 = 8 << 20;

impl BytesDone {
    pub fn new(callback: Option<Py<PyAny>>) -> Self {
        Self {
            callback,
            failed: Mutex::default(),
            seen: AtomicU64::new(0),
        }
    }

    pub fn fail(&self, error: PyErr) {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }

    pub fn tell(&self, done: u64) -> bool {
        let Some(callback) = &self.callback else {
            if done.saturating_sub(self.seen.load(Ordering::Relaxed)) < LOOK {
                return true;
            }
            self.seen.store(done, Ordering::Relaxed);
            // Long work stays interruptible by Ctrl-C.
            #[allow(clippy::redundant_closure)]
            // the method alone is not general enough in its lifetime
            return match Python::attach(|py| Python::check_signals(py)) {
                Ok(()) => true,
                Err(error) => {
                    self.fail(error);
                    false
                }
            };
        };
        match Python::attach(|py| callback.call1(py, (done,))) {
            Ok(_) => true,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// The Python error, if there was one, goes before the engine's.
    pub fn judge<T>(self, result: aegis_vault::Result<T>) -> Result<T> {
        match self
            .failed
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some(error) => Err(error.into()),
            None => Ok(result?),
        }
    }
}

/// Calls a Python function from the engine; its first error is kept and raised afterwards.
pub struct Counts {
    callback: Option<Py<PyAny>>,
    failed: Option<PyErr>,
}

impl Counts {
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
