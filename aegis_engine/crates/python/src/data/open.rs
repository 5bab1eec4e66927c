//! Opening what was stored: objects, records, data sets. Each under a permit, or under the owner's.

use std::sync::Arc;

use aegis_policy::Action;
use aegis_vault::VaultError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::readers::{ObjectReader, RecordReader};
use crate::buffer::{Bytes, SecretBuffer};
use crate::convert::object_id;
use crate::error::Result;
use crate::handle::Vault;
use crate::permits::Permit;
use crate::progress::BytesDone;

/// `load` reports after so many bytes.
const SLAB: usize = 32 << 20;

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
                None => Arc::new(self.inner.owner_permit(id, Action::Read)?),
            };
            Ok(self.inner.reader(&permit, id)?)
        })
    }
}

#[pymethods]
impl Vault {
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
        let done_so_far = BytesDone::new(progress);
        let loaded = py.detach(|| {
            let mut done = 0;
            for slab in pages.chunks_mut(SLAB) {
                reader.read_into(done, slab, threads)?;
                done += slab.len() as u64;
                if !done_so_far.tell(done) {
                    return Err(VaultError::Interrupted);
                }
            }
            Ok(())
        });
        done_so_far.judge(loaded)?;
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

    fn records(&self, py: Python<'_>, permit: &Permit) -> Result<RecordReader> {
        let permit = Arc::clone(&permit.inner);
        Ok(RecordReader {
            inner: Arc::new(py.detach(|| self.inner.records(&permit, permit.object()))?),
        })
    }

    /// A reader of records, under a permit or under the owner's.
    #[pyo3(signature = (object, permit=None))]
    fn record_reader(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        permit: Option<&Permit>,
    ) -> Result<RecordReader> {
        let id = object_id(object)?;
        py.detach(|| {
            let permit = match permit {
                Some(permit) => Arc::clone(&permit.inner),
                None => Arc::new(self.inner.owner_permit(id, Action::Read)?),
            };
            Ok(RecordReader {
                inner: Arc::new(self.inner.records(&permit, id)?),
            })
        })
    }

    #[pyo3(signature = (ids, record=None, *, shuffle=None, read_ahead=None, shard=None, permit=None))]
    fn dataset<'py>(
        slf: Bound<'py, Self>,
        ids: Bound<'py, PyAny>,
        record: Option<Bound<'py, PyAny>>,
        shuffle: Option<Bound<'py, PyAny>>,
        read_ahead: Option<i64>,
        shard: Option<Bound<'py, PyAny>>,
        permit: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let options = PyDict::new(py);
        options.set_item("shuffle", shuffle)?;
        options.set_item("read_ahead", read_ahead)?;
        options.set_item("shard", shard)?;
        options.set_item("permit", permit)?;
        py.import("aegis_engine.data")?
            .getattr("open")?
            .call((slf, ids, record), Some(&options))
    }
}
