//! The sum of a round.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[pyclass(frozen, module = "aegis_engine")]
pub struct SecAggSum {
    pub inner: aegis_secagg::Sum,
}

#[pymethods]
impl SecAggSum {
    #[getter]
    fn contributors(&self) -> Vec<u64> {
        self.inner.contributors.clone()
    }

    #[getter]
    fn weight(&self) -> u64 {
        self.inner.weight
    }

    #[getter]
    fn metrics(&self) -> BTreeMap<String, i64> {
        self.inner.metrics.clone()
    }

    #[getter]
    fn false_shares(&self) -> Vec<(u64, u64)> {
        let found = self.inner.false_shares.iter();
        found.map(|one| (one.holder, one.owner)).collect()
    }

    fn mean<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, self.inner.dim() * 8, |out| {
            let (places, _) = out.as_chunks_mut::<8>();
            let mut places = places.iter_mut();
            self.inner.mean(|value| {
                if let Some(place) = places.next() {
                    *place = value.to_le_bytes();
                }
            });
            Ok(())
        })
    }

    fn integers(&self) -> Vec<i64> {
        self.inner.integers()
    }
}
