//! A Python source of bytes: a binary file, a socket, a descriptor, an iterable of buffers.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::buffer::Bytes;
use crate::error::Result;

/// Bytes asked of a Python stream at once: the size of a chunk.
const PIECE: usize = 1 << 20;

/// What bytes can be stored from.
enum Source {
    /// `readinto` of a binary file object.
    Into(Py<PyAny>),
    /// `read` of a binary file object, or `recv` of a socket.
    Read(Py<PyAny>),
    /// Buffers, one after the other.
    Pieces(Py<PyAny>),
}

impl Source {
    fn of(py: Python<'_>, source: &Bound<'_, PyAny>) -> Result<Self> {
        for (name, made) in [
            ("readinto", Self::Into as fn(Py<PyAny>) -> Self),
            ("recv_into", Self::Into),
            ("read", Self::Read),
        ] {
            if source.hasattr(name)? {
                return Ok(made(source.getattr(name)?.unbind()));
            }
        }
        if let Ok(fd) = source.extract::<i32>() {
            let opened = py.import("io")?.getattr("FileIO")?;
            let kwargs = pyo3::types::PyDict::new(py);
            kwargs.set_item("closefd", false)?;
            let file = opened.call((fd, "rb"), Some(&kwargs))?;
            return Ok(Self::Into(file.getattr("readinto")?.unbind()));
        }
        let iterator = source.try_iter().map_err(|_| {
            PyTypeError::new_err(
                "the source is no binary file, socket, descriptor or iterable of bytes; open files with mode 'rb'",
            )
        })?;
        Ok(Self::Pieces(iterator.into_any().unbind()))
    }
}

/// Fills the engine's chunks from a Python source.
pub struct Puller {
    source: Source,
    /// What Python fills; cleared when it is done. One copy from here into the engine's memory.
    pub window: Py<PyByteArray>,
    /// A piece of an iterable that did not fit, and how much of it is used.
    rest: Option<(Bytes, usize)>,
}

impl Puller {
    pub fn of(py: Python<'_>, source: &Bound<'_, PyAny>) -> Result<Self> {
        Ok(Self {
            source: Source::of(py, source)?,
            window: PyByteArray::new(py, &vec![0; PIECE]).unbind(),
            rest: None,
        })
    }

    pub fn pull(&mut self, py: Python<'_>, out: &mut [u8]) -> PyResult<usize> {
        loop {
            if let Some((piece, used)) = &mut self.rest {
                let left = &piece.as_slice()[*used..];
                let n = left.len().min(out.len());
                out[..n].copy_from_slice(&left[..n]);
                *used += n;
                if *used == piece.as_slice().len() {
                    self.rest = None;
                }
                if n > 0 {
                    return Ok(n);
                }
                continue;
            }
            let piece = match &self.source {
                Source::Into(readinto) => return self.fill(py, readinto, out),
                Source::Read(read) => {
                    let piece = read.call1(py, (out.len().min(PIECE),))?;
                    if piece.is_none(py) {
                        return Err(blocking());
                    }
                    let piece = Bytes::of(piece.bind(py))?;
                    if piece.as_slice().is_empty() {
                        return Ok(0);
                    }
                    piece
                }
                Source::Pieces(iterator) => {
                    let next = iterator.bind(py).cast::<pyo3::types::PyIterator>()?.clone();
                    let mut next = next;
                    match next.next() {
                        None => return Ok(0),
                        Some(piece) => Bytes::of(&piece?)?,
                    }
                }
            };
            self.rest = Some((piece, 0));
        }
    }

    fn fill(&self, py: Python<'_>, readinto: &Py<PyAny>, out: &mut [u8]) -> PyResult<usize> {
        let window = pyo3::types::PyMemoryView::from(self.window.bind(py))?;
        let want = out.len().min(PIECE);
        let slice =
            pyo3::types::PySlice::new(py, 0, isize::try_from(want).unwrap_or(isize::MAX), 1);
        let got = readinto.call1(py, (window.get_item(slice)?,))?;
        let got: usize = got.extract::<Option<usize>>(py)?.ok_or_else(blocking)?;
        if got > want {
            return Err(PyValueError::new_err(
                "the source says it read more than it was asked for",
            ));
        }
        let filled = Bytes::of(self.window.bind(py).as_any())?;
        out[..got].copy_from_slice(&filled.as_slice()[..got]);
        Ok(got)
    }
}

fn blocking() -> PyErr {
    PyValueError::new_err(
        "the source is in non-blocking mode and has no bytes now; make it blocking",
    )
}
