//! What `io.RawIOBase` and `io.BufferedIOBase` have besides, for readers.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::readers::ObjectReader;
use crate::convert::unsupported;
use crate::error::Result;

/// Read at first for a line, and at most for one more part of it.
const LINE: usize = 4 << 10;

const LINE_MAX: usize = 1 << 20;

#[pymethods]
impl ObjectReader {
    /// Up to and with the next line end, `size` bytes at most; nothing at the end.
    #[pyo3(signature = (size=Some(-1), /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> Result<Bound<'py, PyBytes>> {
        let most = size
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(usize::MAX);
        let reader = self.open()?;
        let from = *self.place();
        let mut line = zeroize::Zeroizing::new(Vec::new());
        let mut part = LINE;
        let ended = |line: &[u8]| line.last() == Some(&b'\n');
        while line.len() < most && !ended(&line) {
            let start = line.len();
            let want = part.min(most - start);
            line.resize(start + want, 0);
            let got = py.detach(|| reader.read_at(from + start as u64, &mut line[start..]))?;
            let end = line[start..start + got]
                .iter()
                .position(|byte| *byte == b'\n');
            line.truncate(start + end.map_or(got, |at| at + 1));
            if got == 0 {
                break;
            }
            part = (2 * part).min(LINE_MAX);
        }
        *self.place() = from + line.len() as u64;
        Ok(PyBytes::new(py, &line))
    }

    /// The lines that are left; no more once they have `hint` bytes.
    #[pyo3(signature = (hint=Some(-1), /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> Result<Bound<'py, PyList>> {
        let most = hint.filter(|hint| *hint > 0).unwrap_or(i64::MAX);
        let lines = PyList::empty(py);
        let mut bytes = 0;
        while bytes < most {
            let line = self.readline(py, None)?;
            if line.as_bytes().is_empty() {
                break;
            }
            bytes += i64::try_from(line.as_bytes().len()).unwrap_or(i64::MAX);
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Result<Bound<'_, Self>> {
        slf.get().open()?;
        Ok(slf)
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        let line = self.readline(py, None)?;
        if line.as_bytes().is_empty() {
            return Err(PyStopIteration::new_err(()).into());
        }
        Ok(line)
    }

    #[pyo3(signature = (size=Some(-1), /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> Result<Bound<'py, PyBytes>> {
        // Without a wish a part, not the whole: what the standard library's readers give.
        let part = i64::try_from(LINE_MAX).unwrap_or(i64::MAX);
        self.read(py, Some(size.filter(|size| *size >= 0).unwrap_or(part)))
    }

    #[pyo3(signature = (buffer, /))]
    fn readinto1(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> Result<usize> {
        self.readinto(py, buffer)
    }

    fn fileno(&self, py: Python<'_>) -> Result<i32> {
        self.open()?;
        Err(unsupported(
            py,
            "a sealed object has no file descriptor to its plaintext",
        )
        .into())
    }

    fn detach(&self, py: Python<'_>) -> Result<()> {
        Err(unsupported(py, "a reader has no raw stream under it").into())
    }

    #[pyo3(signature = (_size=None, /))]
    fn truncate(&self, py: Python<'_>, _size: Option<i64>) -> Result<u64> {
        self.open()?;
        Err(unsupported(py, "objects are never changed").into())
    }

    #[pyo3(signature = (_data, /))]
    fn write(&self, py: Python<'_>, _data: &Bound<'_, PyAny>) -> Result<usize> {
        self.open()?;
        Err(unsupported(py, "a reader does not write; see Vault.create_object").into())
    }

    #[pyo3(signature = (_lines, /))]
    fn writelines(&self, py: Python<'_>, _lines: &Bound<'_, PyAny>) -> Result<()> {
        self.open()?;
        Err(unsupported(py, "a reader does not write; see Vault.create_object").into())
    }
}
