//! Readers of objects and of records.

use std::sync::{Mutex, PoisonError};

use aegis_vault::VaultError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

use crate::convert::{bytes, fill, length};
use crate::error::{Fault, Result};

/// A seekable reader over one object's plaintext.
#[pyclass(frozen, module = "aegis_engine")]
pub struct ObjectReader {
    inner: Mutex<Option<aegis_vault::ObjectReader>>,
    place: Mutex<u64>,
}

impl From<aegis_vault::ObjectReader> for ObjectReader {
    fn from(reader: aegis_vault::ObjectReader) -> Self {
        Self {
            inner: Mutex::new(Some(reader)),
            place: Mutex::new(0),
        }
    }
}

impl ObjectReader {
    fn with<T>(&self, work: impl FnOnce(&aegis_vault::ObjectReader) -> Result<T>) -> Result<T> {
        let guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        work(guard.as_ref().ok_or(Fault::Vault(VaultError::Closed))?)
    }

    fn at(&self, py: Python<'_>, offset: u64, size: Option<u64>) -> Result<Zeroizing<Vec<u8>>> {
        py.detach(|| {
            self.with(|reader| {
                let left = reader.len().saturating_sub(offset);
                let want = usize::try_from(size.unwrap_or(left).min(left)).unwrap_or(usize::MAX);
                let mut out = Zeroizing::new(vec![0; want]);
                let got = reader.read_at(offset, &mut out)?;
                out.truncate(got);
                Ok(out)
            })
        })
    }
}

#[pymethods]
impl ObjectReader {
    fn __len__(&self) -> Result<usize> {
        self.with(|reader| Ok(usize::try_from(reader.len()).unwrap_or(usize::MAX)))
    }

    /// Up to `size` bytes from the current place; all that is left with a negative size.
    #[pyo3(signature = (size=-1))]
    fn read<'py>(&self, py: Python<'py>, size: i64) -> Result<Bound<'py, PyBytes>> {
        let place = *self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let data = self.at(py, place, u64::try_from(size).ok())?;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place + data.len() as u64;
        Ok(PyBytes::new(py, &data))
    }

    fn read_at<'py>(&self, py: Python<'py>, offset: u64, size: u64) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.at(py, offset, Some(size))?))
    }

    fn readinto(&self, py: Python<'_>, target: &Bound<'_, PyAny>) -> Result<usize> {
        let (place, want) = (
            *self.place.lock().unwrap_or_else(PoisonError::into_inner),
            length(target)?,
        );
        let data = self.at(py, place, Some(want as u64))?;
        if data.len() == want {
            fill(py, target, &data)?;
        } else {
            let view = py
                .import("builtins")?
                .getattr("memoryview")?
                .call1((target,))?;
            let part = view.get_item(pyo3::types::PySlice::new(
                py,
                0,
                isize::try_from(data.len()).unwrap_or(0),
                1,
            ))?;
            fill(py, &part, &data)?;
        }
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place + data.len() as u64;
        Ok(data.len())
    }

    #[pyo3(signature = (offset, whence=0))]
    fn seek(&self, offset: i64, whence: i32) -> Result<u64> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match whence {
            0 => 0,
            1 => *place,
            2 => self.with(|reader| Ok(reader.len()))?,
            _ => return Err(PyValueError::new_err("whence is 0, 1 or 2").into()),
        };
        *place = from
            .checked_add_signed(offset)
            .ok_or_else(|| PyValueError::new_err("cannot seek before the start"))?;
        Ok(*place)
    }

    fn tell(&self) -> u64 {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyAny>) {
        self.close();
    }
}

/// Reads the rows and columns a permit opens.
#[pyclass(frozen, module = "aegis_engine")]
pub struct RecordReader {
    pub inner: aegis_vault::RecordReader,
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
        let raw = bytes(py, rows)?;
        let (words, _) = raw.as_chunks::<4>();
        let rows: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
        let mut plain = Zeroizing::new(vec![0; length(out)?]);
        py.detach(|| self.inner.read_rows(&rows, &mut plain))?;
        Ok(fill(py, out, &plain)?)
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ObjectReader>()?;
    m.add_class::<RecordReader>()
}
