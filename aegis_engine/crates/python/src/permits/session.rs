//! DP-SGD under one permit.

use std::sync::{Mutex, PoisonError};

use aegis_noise::{NoiseError, Plan};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::permit::Permit;
use crate::convert::{float_bytes, floats};
use crate::error::Result;

/// One round of DP-SGD under one permit: draws, noises, counts. `ComplianceEngine.gate` takes it and empties it.
#[pyclass(frozen, module = "aegis_engine")]
pub struct DpSession {
    inner: Mutex<Option<aegis_policy::DpSession>>,
}

const GONE: NoiseError = NoiseError::Session {
    what: "was released already: one session, one release",
};

impl DpSession {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut aegis_policy::DpSession) -> std::result::Result<T, NoiseError>,
    ) -> std::result::Result<T, NoiseError> {
        // A panic in the middle leaves a step that is drawn and not noised, so a session that is not whole.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.as_mut().map_or(Err(GONE), work)
    }

    /// The session, once.
    pub fn take(&self) -> Result<aegis_policy::DpSession> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(inner.take().ok_or(GONE)?)
    }
}

#[pymethods]
impl DpSession {
    #[new]
    #[pyo3(signature = (permit, *, noise_multiplier, clip, sample_rate, steps, expected_batch, dim, reservation, insecure_seed=None, blocks=0))]
    fn new(
        permit: &Permit,
        noise_multiplier: f64,
        clip: f64,
        sample_rate: f64,
        steps: u64,
        expected_batch: f64,
        dim: u64,
        reservation: &str,
        insecure_seed: Option<u64>,
        blocks: u64,
    ) -> Result<Self> {
        let plan = Plan {
            sigma: noise_multiplier,
            clip,
            rate: sample_rate,
            steps,
            expected_batch,
            dim,
            rows: 0,
            blocks,
        };
        let session =
            aegis_policy::DpSession::new(&permit.inner, plan, reservation, insecure_seed)?;
        Ok(Self {
            inner: Mutex::new(Some(session)),
        })
    }

    /// Places among the permit's rows of the next step's batch, as little-endian u32.
    fn draw<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        let drawn = py.detach(|| self.with(aegis_policy::DpSession::draw))?;
        let raw: Vec<u8> = drawn.iter().flat_map(|r| r.to_le_bytes()).collect();
        Ok(PyBytes::new(py, &raw))
    }

    /// The noised sum, float32, of a buffer of float64.
    fn noise<'py>(&self, py: Python<'py>, sums: &Bound<'_, PyAny>) -> Result<Bound<'py, PyBytes>> {
        let values = PyBuffer::<f64>::get(sums)?.to_vec(py)?;
        let noised = py.detach(|| self.with(|s| s.noise(&values)))?;
        Ok(PyBytes::new(py, &float_bytes(&noised)))
    }

    /// Adds the update of one block: a buffer of float32, clipped here.
    fn add_block(&self, py: Python<'_>, update: &Bound<'_, PyAny>) -> Result<()> {
        let values = floats(py, update)?;
        py.detach(|| self.with(|s| s.add_block(&values)))?;
        Ok(())
    }

    /// The noised sum over all blocks, float32.
    fn noise_blocks<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        let noised = py.detach(|| self.with(aegis_policy::DpSession::noise_blocks))?;
        Ok(PyBytes::new(py, &float_bytes(&noised)))
    }

    /// (drawn, noised, coordinates noised, whole) so far.
    #[getter]
    fn spent(&self) -> Result<(u64, u64, u64, bool)> {
        let spent = self.with(|s| Ok(s.spent()))?;
        Ok((spent.drawn, spent.noised, spent.coordinates, spent.whole()))
    }
}
