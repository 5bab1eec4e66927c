//! Generators, noise, Poisson batches, clipping.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{fill, float_bytes, floats};
use crate::error::Result;

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

/// Scales a buffer of float32 in place to an L2 norm of at most `maximum`; gives the norm before.
#[pyfunction]
pub fn clip_l2(py: Python<'_>, values: &Bound<'_, PyAny>, maximum: f64) -> Result<f64> {
    let mut clipped = floats(py, values)?;
    let norm = py.detach(|| aegis_noise::clip_l2(&mut clipped, maximum));
    fill(py, values, &float_bytes(&clipped))?;
    Ok(norm)
}
