//! Putting bytes in: files, streams, buffers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aegis_vault::{Item, Meta, StoreOptions, VaultError};
use pyo3::prelude::*;
use zeroize::Zeroize;

use super::source::Puller;
use crate::buffer::Bytes;
use crate::convert::python_uuid;
use crate::error::Result;
use crate::handle::Vault;
use crate::progress::BytesDone;

pub type Attrs = Option<BTreeMap<String, String>>;

pub fn meta(name: Option<String>, media_type: &str, subject: Option<String>, attrs: Attrs) -> Meta {
    Meta {
        name: name.unwrap_or_default(),
        media_type: media_type.to_owned(),
        subject,
        attrs: attrs.unwrap_or_default(),
    }
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
        let done_so_far = BytesDone::new(progress);
        let stored = py.detach(|| {
            let mut tell = |done| done_so_far.tell(done);
            let options = StoreOptions {
                threads,
                verify,
                progress: Some(&mut tell),
            };
            self.inner.store_many(&items, options)
        });
        let ids = done_so_far.judge(stored)?;
        Ok(ids
            .into_iter()
            .map(|id| python_uuid(py, id))
            .collect::<PyResult<_>>()?)
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
        let done_so_far = BytesDone::new(progress);
        let stored = py.detach(|| {
            let mut tell = |done| done_so_far.tell(done);
            let options = StoreOptions {
                threads,
                verify,
                progress: Some(&mut tell),
            };
            self.inner.store_file(&path, meta, options)
        });
        Ok(python_uuid(py, done_so_far.judge(stored)?)?)
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
        let done_so_far = BytesDone::new(progress);
        let mut puller = Puller::of(py, source)?;
        let stored = py.detach(|| {
            let mut tell = |done| done_so_far.tell(done);
            let mut read = |out: &mut [u8]| {
                Python::attach(|py| puller.pull(py, out)).map_err(|error| {
                    done_so_far.fail(error);
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
        Ok(python_uuid(py, done_so_far.judge(stored)?)?)
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
        let id = py.detach(|| self.inner.store_bytes(data.as_slice(), meta))?;
        Ok(python_uuid(py, id)?)
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
}
