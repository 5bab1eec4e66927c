//! An object being written.

use aegis_vault::ObjectWriter;
use pyo3::prelude::*;

use super::store::{Attrs, meta};

use crate::buffer::Bytes;
use crate::convert::unsupported;
use crate::error::{Fault, Result};
use crate::handle::Vault;
use crate::under_way::UnderWay;

/// An object being written; nothing is visible before it is finished.
#[pyclass(frozen, module = "aegis_engine")]
pub struct Writer {
    id: String,
    inner: UnderWay<ObjectWriter>,
}

#[pymethods]
impl Writer {
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    #[getter]
    fn closed(&self) -> bool {
        self.inner.closed()
    }

    /// Bytes written so far.
    fn tell(&self) -> Result<u64> {
        self.inner.with(|writer| Ok(writer.written()))
    }

    pub fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> Result<usize> {
        let data = Bytes::of(data)?;
        py.detach(|| {
            self.inner.with(|writer| {
                writer.append(data.as_slice())?;
                Ok(data.as_slice().len())
            })
        })
    }

    fn writable(&self) -> bool {
        true
    }

    fn flush(&self) {}

    /// Makes the object durable and visible.
    fn close(&self, py: Python<'_>) -> Result<()> {
        if let Some(writer) = self.inner.take() {
            py.detach(|| writer.finish())?;
        }
        Ok(())
    }

    /// Leaves nothing behind.
    fn abort(&self, py: Python<'_>) {
        let writer = self.inner.take();
        py.detach(|| drop(writer));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (kind, _error, _trace))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> Result<()> {
        if kind.is_none() {
            return self.close(py);
        }
        self.abort(py);
        Ok(())
    }
}

/// What a writer does not do: it only appends.
fn appends(py: Python<'_>) -> Fault {
    unsupported(py, "an object under way is only written to, at its end").into()
}

/// What `io.RawIOBase` and `io.BufferedIOBase` have besides.
#[pymethods]
impl Writer {
    fn readable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    fn isatty(&self) -> bool {
        false
    }

    #[pyo3(signature = (lines, /))]
    fn writelines(&self, py: Python<'_>, lines: &Bound<'_, PyAny>) -> Result<()> {
        for line in lines.try_iter()? {
            let line = line?;
            // Refused before anything of it is written.
            drop(Bytes::of(&line)?);
            self.write(py, &line)?;
        }
        Ok(())
    }

    #[pyo3(signature = (_size=None, /))]
    fn read(&self, py: Python<'_>, _size: Option<i64>) -> Result<()> {
        Err(appends(py))
    }

    #[pyo3(signature = (_size=None, /))]
    fn read1(&self, py: Python<'_>, _size: Option<i64>) -> Result<()> {
        Err(appends(py))
    }

    fn readall(&self, py: Python<'_>) -> Result<()> {
        Err(appends(py))
    }

    #[pyo3(signature = (_size=None, /))]
    fn readline(&self, py: Python<'_>, _size: Option<i64>) -> Result<()> {
        Err(appends(py))
    }

    #[pyo3(signature = (_hint=None, /))]
    fn readlines(&self, py: Python<'_>, _hint: Option<i64>) -> Result<()> {
        Err(appends(py))
    }

    #[pyo3(signature = (_buffer, /))]
    fn readinto(&self, py: Python<'_>, _buffer: &Bound<'_, PyAny>) -> Result<()> {
        Err(appends(py))
    }

    #[pyo3(signature = (_buffer, /))]
    fn readinto1(&self, py: Python<'_>, _buffer: &Bound<'_, PyAny>) -> Result<()> {
        Err(appends(py))
    }

    #[pyo3(signature = (_offset, _whence=0, /))]
    fn seek(&self, py: Python<'_>, _offset: i64, _whence: i32) -> Result<()> {
        Err(appends(py))
    }

    #[pyo3(signature = (_size=None, /))]
    fn truncate(&self, py: Python<'_>, _size: Option<i64>) -> Result<()> {
        Err(appends(py))
    }

    fn fileno(&self, py: Python<'_>) -> Result<()> {
        Err(unsupported(
            py,
            "an object under way has no file descriptor to its plaintext",
        )
        .into())
    }

    fn detach(&self, py: Python<'_>) -> Result<()> {
        Err(unsupported(py, "a writer has no raw stream under it").into())
    }
}

#[pymethods]
impl Vault {
    #[pyo3(signature = (name, *, media_type="", subject=None, attrs=None))]
    fn create_object(
        &self,
        py: Python<'_>,
        name: String,
        media_type: &str,
        subject: Option<String>,
        attrs: Attrs,
    ) -> Result<Writer> {
        let meta = meta(Some(name), media_type, subject, attrs);
        let writer = py.detach(|| self.inner.writer(meta))?;
        Ok(Writer {
            id: writer.id().to_string(),
            inner: UnderWay::new(writer),
        })
    }
}
