//! Memory shared with Python: buffers of callers without a copy, and buffers of the engine that Python can use.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use aegis_memory::Pages;
use aegis_vault::VaultError;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::convert::view;
use crate::error::{Fault, Result};

/// The bytes of a caller's C-contiguous buffer. Python keeps the memory where it is while this lives.
pub struct Bytes(Option<PyBuffer<u8>>);

// SAFETY: the buffer is only released by Python's allocator when it is dropped, which takes the GIL (pyo3 attaches).
unsafe impl Send for Bytes {}
// SAFETY: as above; the slices below are given out under the borrow rules of this struct.
unsafe impl Sync for Bytes {}

impl Bytes {
    pub fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        view(value).map(Self)
    }

    /// As [`of`](Self::of), for a buffer that is written to.
    pub fn writable(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let bytes = Self::of(value)?;
        if bytes.0.as_ref().is_some_and(|buffer| buffer.readonly()) {
            return Err(PyBufferError::new_err("the buffer is read-only"));
        }
        Ok(bytes)
    }

    pub fn as_slice(&self) -> &[u8] {
        let Some(buffer) = &self.0 else { return &[] };
        // SAFETY: a contiguous buffer of `len_bytes` bytes, held while `self` lives. Another Python thread may write to
        // it meanwhile, as with every buffer given to `write` of the standard library: the bytes read are then any mix,
        // never other memory.
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let Some(buffer) = &self.0 else {
            return &mut [];
        };
        // SAFETY: as in `as_slice`, and not read-only (`writable`). As with `readinto` of the standard library, a caller
        // that touches the buffer meanwhile gets any mix of old and new bytes.
        unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast(), buffer.len_bytes()) }
    }
}

/// Plaintext outside core dumps, usable as a buffer, cleared when it is closed.
#[pyclass(frozen, module = "aegis_engine")]
pub struct SecretBuffer {
    pages: Mutex<Option<Pages>>,
    len: usize,
    /// Views that Python holds; the memory must not go before them.
    exports: AtomicUsize,
    process: u32,
}

impl SecretBuffer {
    pub fn new(pages: Pages) -> Self {
        Self {
            len: pages.len(),
            pages: Mutex::new(Some(pages)),
            exports: AtomicUsize::new(0),
            process: std::process::id(),
        }
    }

    /// Memory of that size, to be filled before Python sees it.
    pub fn memory(len: u64) -> Result<Pages> {
        let len =
            usize::try_from(len).map_err(|_| PyValueError::new_err("too large for memory"))?;
        Pages::new(len).map_err(|source| {
            Fault::Vault(VaultError::Io {
                op: "map memory of",
                path: format!("{len} bytes"),
                source,
            })
        })
    }
}

#[pymethods]
impl SecretBuffer {
    fn __len__(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        format!("<SecretBuffer of {} bytes>", self.len)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    /// Clears and frees the memory.
    fn close(&self) -> PyResult<()> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if self.exports.load(Ordering::Acquire) > 0 {
            return Err(PyBufferError::new_err(
                "the buffer is still in use (memoryview, numpy array or tensor); drop those first",
            ));
        }
        pages.take();
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close()
    }

    // SAFETY: called by Python with a valid view, on an object that outlives the view (the view holds a reference).
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        if std::process::id() != this.process {
            return Err(Fault::Vault(VaultError::ForkedProcess).into());
        }
        let mut pages = this.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pages) = pages.as_mut() else {
            return Err(PyValueError::new_err("the buffer is closed"));
        };
        let len = ffi::Py_ssize_t::try_from(this.len)
            .map_err(|_| PyBufferError::new_err("too large for a buffer"))?;
        // SAFETY: the pages stay mapped while `exports` is above zero (`close` refuses), and `slf` lives as long as the
        // view, which holds the reference that FillInfo takes.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), pages.as_mut_ptr().cast(), len, 0, flags)
        };
        if filled != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        this.exports.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    // SAFETY: called by Python once for each view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.exports.fetch_sub(1, Ordering::AcqRel);
    }
}

/// `size` zeroed bytes outside core dumps.
#[pyfunction]
pub fn secret_buffer(size: u64) -> Result<SecretBuffer> {
    Ok(SecretBuffer::new(SecretBuffer::memory(size)?))
}
