//! Records as a stream.

use std::sync::{Arc, Mutex, PoisonError};

use aegis_vault::{BlockShuffle, Source, Spans, StreamOptions, VaultError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::readers::{ObjectReader, RecordReader};
use crate::buffer::{Bytes, SecretBuffer};
use crate::error::{Fault, Result};

/// Records of one or several objects, under their permits.
#[pyclass(frozen, module = "aegis_engine")]
pub struct Records {
    inner: Arc<aegis_vault::Records>,
}

fn options(
    epoch: u64,
    position: u64,
    window: Option<u32>,
    seed: u64,
    shard: (u32, u32),
    read_ahead: u32,
) -> StreamOptions {
    StreamOptions {
        shuffle: window.map(|window| BlockShuffle { window, seed }),
        epoch,
        position,
        shard,
        read_ahead,
    }
}

#[pymethods]
impl Records {
    /// `sources`: (reader, start, stride, count), (reader, offsets) or a `RecordReader` each.
    #[new]
    fn new(py: Python<'_>, sources: &Bound<'_, PyList>) -> Result<Self> {
        let mut all = Vec::with_capacity(sources.len());
        for source in sources.iter() {
            if let Ok(rows) = source.cast::<RecordReader>() {
                all.push(Source::Rows(Arc::clone(&rows.get().inner)));
            } else if let Ok((reader, start, stride, count)) =
                source.extract::<(PyRef<'_, ObjectReader>, u64, u32, u32)>()
            {
                let spans = Spans::Fixed {
                    start,
                    stride,
                    count,
                };
                all.push(Source::object(reader.open()?, spans)?);
            } else {
                let (reader, offsets) =
                    source.extract::<(PyRef<'_, ObjectReader>, Bound<'_, PyAny>)>()?;
                let raw = Bytes::of(&offsets)?;
                let (words, rest) = raw.as_slice().as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(PyValueError::new_err(
                        "offsets are little-endian uint64: 8 bytes each",
                    )
                    .into());
                }
                let offsets = words.iter().map(|w| u64::from_le_bytes(*w)).collect();
                all.push(Source::object(reader.open()?, Spans::Offsets(offsets))?);
            }
        }
        let inner = py.detach(|| aegis_vault::Records::new(all))?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.inner.len()).unwrap_or(usize::MAX)
    }

    /// Bytes of a record, when all have the same.
    #[getter]
    fn stride(&self) -> Option<u32> {
        self.inner.stride()
    }

    /// Copies the records of those numbers (a buffer of little-endian u64) into `out`.
    fn take(
        &self,
        py: Python<'_>,
        wanted: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
    ) -> Result<()> {
        let raw = Bytes::of(wanted)?;
        let (words, _) = raw.as_slice().as_chunks::<8>();
        let wanted: Vec<u64> = words.iter().map(|w| u64::from_le_bytes(*w)).collect();
        let mut out = Bytes::writable(out)?;
        Ok(py.detach(|| self.inner.take(&wanted, out.as_mut_slice()))?)
    }

    /// One record.
    fn get(&self, py: Python<'_>, record: u64) -> Result<SecretBuffer> {
        Ok(SecretBuffer::new(py.detach(|| self.inner.get(record))?))
    }

    #[pyo3(signature = (epoch, window, seed, shard))]
    fn shard_len(
        &self,
        py: Python<'_>,
        epoch: u64,
        window: Option<u32>,
        seed: u64,
        shard: (u32, u32),
    ) -> Result<u64> {
        let options = options(epoch, 0, window, seed, shard, 0);
        Ok(py.detach(|| self.inner.shard_len(&options))?)
    }

    #[pyo3(signature = (epoch, position, window, seed, shard, read_ahead))]
    fn stream(
        &self,
        py: Python<'_>,
        epoch: u64,
        position: u64,
        window: Option<u32>,
        seed: u64,
        shard: (u32, u32),
        read_ahead: u32,
    ) -> Result<RecordStream> {
        let options = options(epoch, position, window, seed, shard, read_ahead);
        let stream = py.detach(|| self.inner.stream(options))?;
        Ok(RecordStream {
            inner: Mutex::new(Some(stream)),
        })
    }
}

/// The records of one epoch of one shard.
#[pyclass(frozen, module = "aegis_engine")]
pub struct RecordStream {
    inner: Mutex<Option<aegis_vault::RecordStream>>,
}

impl RecordStream {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut aegis_vault::RecordStream) -> aegis_vault::Result<T>,
    ) -> Result<T> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = guard.as_mut().ok_or(Fault::Vault(VaultError::Closed))?;
        Ok(work(stream)?)
    }
}

#[pymethods]
impl RecordStream {
    /// Fills `out` with records of `stride` bytes; gives how many, fewer only at the end.
    fn fill(&self, py: Python<'_>, stride: usize, out: &Bound<'_, PyAny>) -> Result<usize> {
        let mut out = Bytes::writable(out)?;
        py.detach(|| self.with(|stream| stream.fill(stride, out.as_mut_slice())))
    }

    /// Redeems the permits of what `fill` gave last once more: it is handed on record by record.
    fn redeem(&self) -> Result<()> {
        self.with(aegis_vault::RecordStream::redeem)
    }

    /// The next record of any size; None at the end.
    fn next_record(&self, py: Python<'_>) -> Result<Option<SecretBuffer>> {
        let next = py.detach(|| self.with(aegis_vault::RecordStream::next_record))?;
        Ok(next.map(SecretBuffer::new))
    }

    #[getter]
    fn position(&self) -> Result<u64> {
        self.with(|stream| Ok(stream.position()))
    }

    /// Stops the reading threads and clears what they decrypted.
    fn close(&self, py: Python<'_>) {
        let stream = self
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        py.detach(|| drop(stream));
    }
}

/// The permutation of the numbers below `count` of that stream, little-endian u32.
#[pyfunction]
pub fn shuffle_order(
    py: Python<'_>,
    seed: u64,
    epoch: u64,
    stream: u64,
    count: u32,
) -> Result<Bound<'_, PyBytes>> {
    let order = py.detach(|| aegis_vault::shuffle_order(seed, epoch, stream, count))?;
    let packed: Vec<u8> = order.into_iter().flat_map(u32::to_le_bytes).collect();
    Ok(PyBytes::new(py, &packed))
}
