//! Vaults: everything that puts bytes in or takes whole objects out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aegis_vault::{Item, Meta, ObjectWriter, StoreOptions, VaultError};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use zeroize::Zeroize;

use crate::buffer::{Bytes, SecretBuffer};
use crate::error::{Fault, Result};
use crate::policy::Permit;
use crate::readers::ObjectReader;
use crate::vault::{Vault, object_id, python_uuid};

/// Bytes asked of a Python stream at once: the size of a chunk.
const PIECE: usize = 1 << 20;

type Attrs = Option<BTreeMap<String, String>>;

fn meta(name: Option<String>, media_type: &str, subject: Option<String>, attrs: Attrs) -> Meta {
    Meta {
        name: name.unwrap_or_default(),
        media_type: media_type.to_owned(),
        subject,
        attrs: attrs.unwrap_or_default(),
    }
}

/// Calls back with the bytes done; an exception stops the work and is raised afterwards.
struct Teller {
    callback: Option<Py<PyAny>>,
    failed: Mutex<Option<PyErr>>,
    /// Bytes done when signals were last looked at.
    seen: AtomicU64,
}

/// Signals are looked at once in so many bytes: each look waits for the interpreter.
const LOOK: u64 = 8 << 20;
/// `load` reports after so many bytes.
const SLAB: usize = 32 << 20;

impl Teller {
    fn new(callback: Option<Py<PyAny>>) -> Self {
        Self {
            callback,
            failed: Mutex::default(),
            seen: AtomicU64::new(0),
        }
    }

    fn fail(&self, error: PyErr) {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }

    fn tell(&self, done: u64) -> bool {
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
    fn judge<T>(self, result: aegis_vault::Result<T>) -> Result<T> {
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
struct Puller {
    source: Source,
    /// What Python fills; cleared when it is done. One copy from here into the engine's memory.
    window: Py<PyByteArray>,
    /// A piece of an iterable that did not fit, and how much of it is used.
    rest: Option<(Bytes, usize)>,
}

impl Puller {
    fn pull(&mut self, py: Python<'_>, out: &mut [u8]) -> PyResult<usize> {
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

impl Vault {
    fn store_all<'py>(
        &self,
        py: Python<'py>,
        items: Vec<(Item<'_>, Meta)>,
        threads: Option<usize>,
        verify: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<Vec<Bound<'py, PyAny>>> {
        let teller = Teller::new(progress);
        let stored = py.detach(|| {
            let mut tell = |done| teller.tell(done);
            let options = StoreOptions {
                threads,
                verify,
                progress: Some(&mut tell),
            };
            self.inner.store_many(&items, options)
        });
        let ids = teller.judge(stored)?;
        ids.into_iter().map(|id| python_uuid(py, id)).collect()
    }
}

#[pymethods]
impl Vault {
    #[pyo3(signature = (path, *, name=None, media_type="", subject=None, attrs=None, threads=None, verify=false, progress=None))]
    fn store_file<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        name: Option<String>,
        media_type: &str,
        subject: Option<String>,
        attrs: Attrs,
        threads: Option<usize>,
        verify: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<Bound<'py, PyAny>> {
        let meta = meta(name, media_type, subject, attrs);
        let teller = Teller::new(progress);
        let stored = py.detach(|| {
            let mut tell = |done| teller.tell(done);
            let options = StoreOptions {
                threads,
                verify,
                progress: Some(&mut tell),
            };
            self.inner.store_file(&path, meta, options)
        });
        python_uuid(py, teller.judge(stored)?)
    }

    #[pyo3(signature = (source, name, *, media_type="", subject=None, attrs=None, threads=None, verify=false, progress=None))]
    fn store_stream<'py>(
        &self,
        py: Python<'py>,
        source: &Bound<'_, PyAny>,
        name: String,
        media_type: &str,
        subject: Option<String>,
        attrs: Attrs,
        threads: Option<usize>,
        verify: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<Bound<'py, PyAny>> {
        let meta = meta(Some(name), media_type, subject, attrs);
        let teller = Teller::new(progress);
        let mut puller = Puller {
            source: Source::of(py, source)?,
            window: PyByteArray::new(py, &vec![0; PIECE]).unbind(),
            rest: None,
        };
        let stored = py.detach(|| {
            let mut tell = |done| teller.tell(done);
            let mut read = |out: &mut [u8]| {
                Python::attach(|py| puller.pull(py, out)).map_err(|error| {
                    teller.fail(error);
                    VaultError::Interrupted
                })
            };
            let options = StoreOptions {
                threads,
                verify,
                progress: Some(&mut tell),
            };
            self.inner.store_stream(&mut read, meta, options)
        });
        if let Ok(mut window) = Bytes::writable(puller.window.bind(py).as_any()) {
            window.as_mut_slice().zeroize();
        }
        python_uuid(py, teller.judge(stored)?)
    }

    #[pyo3(signature = (data, name, *, media_type="", subject=None, attrs=None))]
    fn store_bytes<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'_, PyAny>,
        name: &str,
        media_type: &str,
        subject: Option<String>,
        attrs: Attrs,
    ) -> Result<Bound<'py, PyAny>> {
        let data = Bytes::of(data)?;
        let meta = meta(Some(name.to_owned()), media_type, subject, attrs);
        python_uuid(
            py,
            py.detach(|| self.inner.store_bytes(data.as_slice(), meta))?,
        )
    }

    /// Many files in one commit: all of them, or none.
    #[pyo3(signature = (paths, *, media_type="", subject=None, attrs=None, threads=None, verify=false, progress=None))]
    fn store_files<'py>(
        &self,
        py: Python<'py>,
        paths: Vec<PathBuf>,
        media_type: &str,
        subject: Option<String>,
        attrs: Attrs,
        threads: Option<usize>,
        verify: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<Vec<Bound<'py, PyAny>>> {
        let meta = meta(None, media_type, subject, attrs);
        let items = paths.iter().map(|path| (Item::File(path), meta.clone()));
        self.store_all(py, items.collect(), threads, verify, progress)
    }

    /// Many buffers in one commit: all of them, or none.
    #[pyo3(signature = (items, *, media_type="", subject=None, attrs=None, threads=None, verify=false, progress=None))]
    fn store_many<'py>(
        &self,
        py: Python<'py>,
        items: Vec<(String, Bound<'py, PyAny>)>,
        media_type: &str,
        subject: Option<String>,
        attrs: Attrs,
        threads: Option<usize>,
        verify: bool,
        progress: Option<Py<PyAny>>,
    ) -> Result<Vec<Bound<'py, PyAny>>> {
        let meta = meta(None, media_type, subject, attrs);
        let named = items
            .iter()
            .map(|(name, data)| Ok((name, Bytes::of(data)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let items = named.iter().map(|(name, data)| {
            let meta = Meta {
                name: (*name).clone(),
                ..meta.clone()
            };
            (Item::Bytes(data.as_slice()), meta)
        });
        self.store_all(py, items.collect(), threads, verify, progress)
    }

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
            inner: Mutex::new(Some(writer)),
        })
    }

    #[pyo3(signature = (object, buffer, permit=None, *, threads=None))]
    fn read_into(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        buffer: &Bound<'_, PyAny>,
        permit: Option<&Permit>,
        threads: Option<usize>,
    ) -> Result<usize> {
        let reader = self.reader(py, object, permit)?;
        let mut out = Bytes::writable(buffer)?;
        let need = reader.len();
        if (out.as_slice().len() as u64) < need {
            let text = format!(
                "the buffer has {} bytes, the object {need}; give one that is large enough",
                out.as_slice().len()
            );
            return Err(PyValueError::new_err(text).into());
        }
        Ok(py.detach(|| reader.read_into(0, out.as_mut_slice(), threads))?)
    }

    #[pyo3(signature = (object, permit=None, *, threads=None, progress=None))]
    fn load(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        permit: Option<&Permit>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> Result<SecretBuffer> {
        let reader = self.reader(py, object, permit)?;
        let mut pages = SecretBuffer::memory(reader.len())?;
        let teller = Teller::new(progress);
        let loaded = py.detach(|| {
            let mut done = 0;
            for slab in pages.chunks_mut(SLAB) {
                reader.read_into(done, slab, threads)?;
                done += slab.len() as u64;
                if !teller.tell(done) {
                    return Err(VaultError::Interrupted);
                }
            }
            Ok(())
        });
        teller.judge(loaded)?;
        Ok(SecretBuffer::new(pages))
    }

    #[pyo3(signature = (object, permit=None))]
    fn open_object(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        permit: Option<&Permit>,
    ) -> Result<ObjectReader> {
        Ok(self.reader(py, object, permit)?.into())
    }

    #[pyo3(signature = (object, *, threads=None, progress=None))]
    fn verify(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
    ) -> Result<u64> {
        let id = object_id(object)?;
        let teller = Teller::new(progress);
        let report = py.detach(|| {
            let mut tell = |done| teller.tell(done);
            self.inner.verify_with(id, threads, Some(&mut tell))
        });
        Ok(teller.judge(report)?.chunks)
    }
}

impl Vault {
    /// A reader under `permit`, or under the owner's.
    pub fn reader(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        permit: Option<&Permit>,
    ) -> Result<aegis_vault::ObjectReader> {
        let id = object_id(object)?;
        py.detach(|| {
            let permit = match permit {
                Some(permit) => Arc::clone(&permit.inner),
                None => Arc::new(self.inner.owner_permit(id, aegis_policy::Action::Read)?),
            };
            Ok(self.inner.reader(&permit, id)?)
        })
    }
}

/// An object being written; nothing is visible before it is finished.
#[pyclass(frozen, module = "aegis_engine")]
pub struct Writer {
    id: String,
    inner: Mutex<Option<ObjectWriter>>,
}

impl Writer {
    fn take(&self) -> Option<ObjectWriter> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[pymethods]
impl Writer {
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    #[getter]
    fn closed(&self) -> bool {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    /// Bytes written so far.
    fn tell(&self) -> Result<u64> {
        let writer = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.as_ref().ok_or(Fault::Vault(VaultError::Closed))?;
        Ok(writer.written())
    }

    pub fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> Result<usize> {
        let data = Bytes::of(data)?;
        py.detach(|| {
            let mut writer = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let writer = writer.as_mut().ok_or(Fault::Vault(VaultError::Closed))?;
            writer.append(data.as_slice())?;
            Ok(data.as_slice().len())
        })
    }

    fn writable(&self) -> bool {
        true
    }

    fn flush(&self) {}

    /// Makes the object durable and visible.
    fn close(&self, py: Python<'_>) -> Result<()> {
        if let Some(writer) = self.take() {
            py.detach(|| writer.finish())?;
        }
        Ok(())
    }

    /// Leaves nothing behind.
    fn abort(&self, py: Python<'_>) {
        let writer = self.take();
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

/// No dumps and no attaching, for the whole process.
#[pyfunction]
fn harden_process() -> PyResult<()> {
    Ok(aegis_memory::harden_process()?)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(harden_process, m)?)?;
    m.add_class::<Writer>()
}
