//! Arrow's C interface in capsules ("Arrow `PyCapsule` interface"), and columns of numbers as buffers.
//!
//! A capsule owns its structure. A consumer moves the structure out and marks the original as released (Arrow C data
//! interface, "Moving an array"); dropping the structure calls `release` unless that was done: freed once, either way.
#![allow(unsafe_code)]

use std::ffi::c_int;

use aegis_memory::Pages;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, to_ffi};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, RecordBatch, RecordBatchReader, StructArray};
use arrow_schema::{ArrowError, Schema};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

fn broken(error: &ArrowError) -> PyErr {
    PyValueError::new_err(format!("these columns have no Arrow C form: {error}"))
}

/// `__arrow_c_schema__`.
pub fn schema<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(schema).map_err(|e| broken(&e))?;
    PyCapsule::new_with_value(py, schema, c"arrow_schema")
}

/// `__arrow_c_array__`: a record batch is a struct array.
pub fn array<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let array = StructArray::from(batch.clone()).into_data();
    let (array, _): (FFI_ArrowArray, _) = to_ffi(&array).map_err(|e| broken(&e))?;
    Ok((
        schema(py, &batch.schema())?,
        PyCapsule::new_with_value(py, array, c"arrow_array")?,
    ))
}

/// `__arrow_c_stream__`.
pub fn stream(
    py: Python<'_>,
    reader: Box<dyn RecordBatchReader + Send>,
) -> PyResult<Bound<'_, PyCapsule>> {
    let stream = FFI_ArrowArrayStream::new(reader);
    PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
}

/// Numbers of one column, as a writable buffer of bytes: outside core dumps, cleared when the last array on it is gone.
#[pyclass(frozen, module = "aegis_engine")]
pub struct ColumnBuffer {
    /// Written by whoever holds a buffer of it; Rust never looks at it again.
    pages: std::cell::UnsafeCell<Pages>,
    len: usize,
}

// SAFETY: after construction Rust only takes the address of the pages, in `__getbuffer__`, and drops them, when no buffer
// is left; the buffer protocol leaves races between writers to the callers, as for every writable buffer.
unsafe impl Sync for ColumnBuffer {}

impl From<Pages> for ColumnBuffer {
    fn from(pages: Pages) -> Self {
        let len = pages.len();
        Self {
            pages: pages.into(),
            len,
        }
    }
}

#[pymethods]
impl ColumnBuffer {
    fn __len__(&self) -> usize {
        self.len
    }

    /// # Safety
    /// Called by the interpreter with a buffer structure to fill.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let len = isize::try_from(this.len).unwrap_or(isize::MAX);
        // SAFETY: the reference lives for this line only; no other one exists, since nothing else touches `pages`.
        let at = unsafe { (*this.pages.get()).as_mut_ptr() };
        // SAFETY: `at` is valid for `len` bytes while the object lives, and the view holds a reference to the object.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), at.cast(), len, 0, flags) };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}
