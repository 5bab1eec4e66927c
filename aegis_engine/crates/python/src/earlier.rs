//! Keywords in place of an object, the form of before 0.2, may be taken here: they mean what the object means, and warn.

use std::ffi::CString;

use pyo3::PyClass;
use pyo3::exceptions::{PyDeprecationWarning, PyTypeError};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyDict;

/// Tells the caller's line what to pass from 0.2 on, such as `Request(action=..., purpose=...)`.
pub fn warn(py: Python<'_>, object: &str) -> PyResult<()> {
    let what =
        format!("aegis_engine: keywords in place of the object are taken until 0.2; pass {object}");
    let category = py.get_type::<PyDeprecationWarning>();
    PyErr::warn(py, &category, CString::new(what)?.as_c_str(), 1)
}

/// The object that was given, or the one that the keywords make; `object` is how a caller writes it.
pub fn given_or_made<T>(
    py: Python<'_>,
    given: Option<&Bound<'_, T>>,
    loose: Option<&Bound<'_, PyDict>>,
    object: &str,
) -> PyResult<T>
where
    T: PyClass<Frozen = True> + Clone + Sync,
{
    match (given, loose) {
        (Some(given), None) => Ok(given.get().clone()),
        (None, Some(words)) => {
            warn(py, object)?;
            let made = py.get_type::<T>().call((), Some(words))?;
            Ok(made.cast::<T>()?.get().clone())
        }
        (Some(_), Some(words)) => Err(PyTypeError::new_err(format!(
            "the object says everything: leave out {}",
            words
                .keys()
                .iter()
                .map(|k| k.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
        (None, None) => Err(PyTypeError::new_err(format!("pass {object}"))),
    }
}
