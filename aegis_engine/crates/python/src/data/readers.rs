//! Readers of objects and of records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::Bytes;
use crate::error::{Fault, Result};

/// A seekable reader over one object's plaintext.
#[pyclass(frozen, module = "aegis_engine")]
pub struct ObjectReader {
    inner: Mutex<Option<Arc<aegis_vault::ObjectReader>>>,
    place: Mutex<u64>,
}

impl From<aegis_vault::ObjectReader> for ObjectReader {
    fn from(reader: aegis_vault::ObjectReader) -> Self {
        Self {
            inner: Mutex::new(Some(Arc::new(reader))),
            place: Mutex::new(0),
        }
    }
}

impl ObjectReader {
    pub fn open(&self) -> Result<Arc<aegis_vault::ObjectReader>> {
        let guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = guard.as_ref().ok_or_else(|| {
            // What a closed file of the standard library raises.
            PyValueError::new_err("I/O operation on closed file")
        })?;
        Ok(Arc::clone(reader))
    }

    pub fn place(&self) -> MutexGuard<'_, u64> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new bytes object, decrypted into its own memory.
    fn at<'py>(
        &self,
        py: Python<'py>,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Bound<'py, PyBytes>> {
        let reader = self.open()?;
        let left = reader.len().saturating_sub(offset);
        let want = usize::try_from(size.unwrap_or(left).min(left))
            .map_err(|_| PyValueError::new_err("too large for memory; read it in parts"))?;
        let made = PyBytes::new_with(py, want, |out| {
            // The object is not seen by anybody else yet.
            let done = py.detach(|| reader.read_into(offset, out, None));
            done.map(drop).map_err(|error| {
                let fault = Fault::Vault(error);
                PyErr::from(fault)
            })
        });
        Ok(made?)
    }
}

#[pymethods]
impl ObjectReader {
    fn __len__(&self) -> Result<usize> {
        Ok(usize::try_from(self.open()?.len()).unwrap_or(usize::MAX))
    }

    /// Up to `size` bytes from the current place; all that is left with a negative size or None.
    #[pyo3(signature = (size=Some(-1)))]
    pub fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> Result<Bound<'py, PyBytes>> {
        let from = *self.place();
        let size = size.and_then(|size| u64::try_from(size).ok());
        let data = self.at(py, from, size)?;
        *self.place() = from + data.as_bytes().len() as u64;
        Ok(data)
    }

    fn readall<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        self.read(py, None)
    }

    fn read_at<'py>(&self, py: Python<'py>, offset: u64, size: u64) -> Result<Bound<'py, PyBytes>> {
        self.at(py, offset, Some(size))
    }

    #[pyo3(signature = (buffer, offset=0, *, threads=None))]
    fn read_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        offset: u64,
        threads: Option<usize>,
    ) -> Result<usize> {
        let reader = self.open()?;
        let mut out = Bytes::writable(buffer)?;
        Ok(py.detach(|| reader.read_into(offset, out.as_mut_slice(), threads))?)
    }

    pub fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> Result<usize> {
        let from = *self.place();
        let got = self.read_into(py, buffer, from, None)?;
        *self.place() = from + got as u64;
        Ok(got)
    }

    #[pyo3(signature = (offset, whence=0))]
    fn seek(&self, offset: i64, whence: i32) -> Result<u64> {
        let end = self.open()?.len();
        let mut place = self.place();
        let from = match whence {
            0 => 0,
            1 => *place,
            2 => end,
            _ => return Err(PyValueError::new_err("whence is 0, 1 or 2").into()),
        };
        *place = from
            .checked_add_signed(offset)
            .ok_or_else(|| PyValueError::new_err("cannot seek before the start"))?;
        Ok(*place)
    }

    fn tell(&self) -> Result<u64> {
        self.open()?;
        Ok(*self.place())
    }

    fn readable(&self) -> Result<bool> {
        self.open().map(|_| true)
    }

    fn seekable(&self) -> Result<bool> {
        self.open().map(|_| true)
    }

    fn writable(&self) -> Result<bool> {
        self.open().map(|_| false)
    }

    fn isatty(&self) -> Result<bool> {
        self.open().map(|_| false)
    }

    fn flush(&self) -> Result<()> {
        self.open().map(drop)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    fn close(&self) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn __enter__(slf: Bound<'_, Self>) -> Result<Bound<'_, Self>> {
        slf.get().open()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyAny>) {
        self.close();
    }
}

/// Reads the rows and columns a permit opens.
#[pyclass(frozen, module = "aegis_engine")]
pub struct RecordReader {
    pub inner: Arc<aegis_vault::RecordReader>,
}

#[pymethods]
impl RecordReader {
    /// Permitted columns: name, dtype, values a record.
    fn columns(&self) -> Vec<(String, String, u32)> {
        self.inner
            .columns()
            .iter()
            .map(|c| (c.name.clone(), c.dtype.name().to_owned(), c.count))
            .collect()
    }

    #[getter]
    fn record_len(&self) -> usize {
        self.inner.record_len()
    }

    /// Permitted row numbers, as little-endian u32.
    fn rows<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let raw: Vec<u8> = self
            .inner
            .rows()
            .iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        PyBytes::new(py, &raw)
    }

    /// Fills `out` with the permitted columns of `rows` (a buffer of little-endian u32).
    fn read_rows(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
    ) -> Result<()> {
        let rows = Bytes::of(rows)?;
        let (words, rest) = rows.as_slice().as_chunks::<4>();
        if !rest.is_empty() {
            return Err(
                PyValueError::new_err("rows are little-endian uint32: 4 bytes each").into(),
            );
        }
        let rows: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
        let mut out = Bytes::writable(out)?;
        Ok(py.detach(|| self.inner.read_rows(&rows, out.as_mut_slice()))?)
    }
}
