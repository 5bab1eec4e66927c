//! Generators, noise, Poisson batches, clipping.

use std::sync::{Mutex, PoisonError};

use aegis_noise::{NoiseError, Plan};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{fill, float_bytes, floats};
use crate::error::Result;
use crate::policy::Permit;

#[pyclass(frozen, module = "aegis_engine")]
pub struct Rng {
    inner: Mutex<aegis_noise::Rng>,
}

impl Rng {
    fn with<T>(&self, work: impl FnOnce(&mut aegis_noise::Rng) -> T) -> T {
        // A poisoned generator has at worst skipped some output.
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Rng {
    #[new]
    fn new() -> Result<Self> {
        Ok(Self {
            inner: Mutex::new(aegis_noise::Rng::from_os()?),
        })
    }

    #[staticmethod]
    fn insecure_test(seed: u64) -> Self {
        Self {
            inner: Mutex::new(aegis_noise::Rng::insecure_test(seed)),
        }
    }

    /// Adds noise to a buffer of float32 in place.
    fn add_gaussian(&self, py: Python<'_>, values: &Bound<'_, PyAny>, sigma: f64) -> Result<()> {
        let mut noised = floats(py, values)?;
        py.detach(|| self.with(|rng| aegis_noise::add_gaussian(rng, &mut noised, sigma)))?;
        Ok(fill(py, values, &float_bytes(&noised))?)
    }

    /// Row numbers below `rows`, each with probability `rate`, as little-endian u32.
    fn poisson_rows<'py>(
        &self,
        py: Python<'py>,
        rows: u64,
        rate: f64,
    ) -> Result<Bound<'py, PyBytes>> {
        let drawn = py.detach(|| self.with(|rng| aegis_noise::poisson_rows(rng, rows, rate)))?;
        let raw: Vec<u8> = drawn.iter().flat_map(|r| r.to_le_bytes()).collect();
        Ok(PyBytes::new(py, &raw))
    }
}

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
    #[pyo3(signature = (permit, *, noise_multiplier, clip, sample_rate, steps, expected_batch, dim, reservation, insecure_seed=None))]
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
    ) -> Result<Self> {
        let plan = Plan {
            sigma: noise_multiplier,
            clip,
            rate: sample_rate,
            steps,
            expected_batch,
            dim,
            rows: 0,
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

    /// (drawn, noised, coordinates noised, whole) so far.
    #[getter]
    fn spent(&self) -> Result<(u64, u64, u64, bool)> {
        let spent = self.with(|s| Ok(s.spent()))?;
        Ok((spent.drawn, spent.noised, spent.coordinates, spent.whole()))
    }
}

/// Scales a buffer of float32 in place to an L2 norm of at most `maximum`; gives the norm before.
#[pyfunction]
fn clip_l2(py: Python<'_>, values: &Bound<'_, PyAny>, maximum: f64) -> Result<f64> {
    let mut clipped = floats(py, values)?;
    let norm = py.detach(|| aegis_noise::clip_l2(&mut clipped, maximum));
    fill(py, values, &float_bytes(&clipped))?;
    Ok(norm)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Rng>()?;
    m.add_class::<DpSession>()?;
    m.add_function(wrap_pyfunction!(clip_l2, m)?)
}
