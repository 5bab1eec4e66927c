//! What a run sums, and with which graph.

use aegis_secagg::{Encoding, Plan, Profile, ServerRun};
use pyo3::prelude::*;

use crate::convert::floats;
use crate::error::Result;

/// The plan of a run: checked once, when it is made, and passed whole from then on.
#[pyclass(frozen, module = "aegis_engine")]
#[derive(Clone)]
pub struct SecAggPlan {
    inner: Plan,
    #[pyo3(get)]
    min_clients: u32,
    #[pyo3(get)]
    sparse: Option<(u32, u32)>,
    #[pyo3(get)]
    commit: bool,
}

#[pymethods]
impl SecAggPlan {
    #[new]
    #[pyo3(signature = (*, dim, metrics, clip, value_bits, weight_max, metric_max, max_clients, min_clients, sparse=None,
        commit=false))]
    fn new(
        dim: u64,
        metrics: Vec<String>,
        clip: f64,
        value_bits: u8,
        weight_max: u64,
        metric_max: u64,
        max_clients: u32,
        min_clients: u32,
        sparse: Option<(u32, u32)>,
        commit: bool,
    ) -> Result<Self> {
        let encoding = Encoding {
            clip,
            value_bits,
            weight_max,
            metric_max,
        };
        let made = Self {
            inner: Plan {
                dim,
                metrics,
                encoding,
                n_max: max_clients,
            },
            min_clients,
            sparse,
            commit,
        };
        made.server(0)?;
        Ok(made)
    }

    #[getter]
    fn dim(&self) -> u64 {
        self.inner.dim
    }

    #[getter]
    fn metrics(&self) -> Vec<String> {
        self.inner.metrics.clone()
    }

    #[getter]
    fn clip(&self) -> f64 {
        self.inner.encoding.clip
    }

    #[getter]
    fn value_bits(&self) -> u8 {
        self.inner.encoding.value_bits
    }

    #[getter]
    fn weight_max(&self) -> u64 {
        self.inner.encoding.weight_max
    }

    #[getter]
    fn metric_max(&self) -> u64 {
        self.inner.encoding.metric_max
    }

    #[getter]
    fn max_clients(&self) -> u32 {
        self.inner.n_max
    }

    #[getter]
    fn ring_bits(&self) -> Result<u32> {
        Ok(self.inner.width()?.bits())
    }

    fn __repr__(&self) -> String {
        let Encoding {
            clip, value_bits, ..
        } = self.inner.encoding;
        format!(
            "<SecAggPlan: {} values of {value_bits} bits within {clip}, {} to {} clients>",
            self.inner.dim, self.min_clients, self.inner.n_max
        )
    }
}

impl SecAggPlan {
    /// How a caller writes one.
    pub const WRITTEN: &str = "SecAggPlan(dim=..., metrics=..., ...)";

    /// A server of the run for this plan.
    pub fn server(&self, run: u64) -> Result<ServerRun> {
        let profile = match self.sparse {
            Some((colluding, lost)) => Profile::Sparse { colluding, lost },
            None => Profile::Complete {
                commit: self.commit,
            },
        };
        let server = ServerRun::new(run, self.inner.clone(), self.min_clients)?;
        Ok(server.with_profile(profile))
    }
}

/// The plain integers of one contribution, for comparisons with an unmasked sum.
#[pyfunction]
#[pyo3(signature = (update, weight, metrics, *, names, clip, value_bits, weight_max, metric_max, max_clients))]
pub fn encode_update(
    py: Python<'_>,
    update: &Bound<'_, PyAny>,
    weight: u64,
    metrics: Vec<i64>,
    names: Vec<String>,
    clip: f64,
    value_bits: u8,
    weight_max: u64,
    metric_max: u64,
    max_clients: u32,
) -> Result<Vec<i64>> {
    let values = floats(py, update)?;
    let encoding = Encoding {
        clip,
        value_bits,
        weight_max,
        metric_max,
    };
    let plan = Plan {
        dim: values.len() as u64,
        metrics: names,
        encoding,
        n_max: max_clients,
    };
    Ok(aegis_secagg::encode(&values, weight, &metrics, &plan)?)
}
