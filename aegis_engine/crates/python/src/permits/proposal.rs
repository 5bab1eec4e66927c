//! An update that asks to leave, and what may leave.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aegis_policy::{GateLimits, TensorSpec};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::floats;
use crate::earlier;

fn specs(list: Vec<(String, Vec<u64>)>) -> Vec<TensorSpec> {
    list.into_iter()
        .map(|(name, shape)| TensorSpec { name, shape })
        .collect()
}

fn told(specs: &[TensorSpec]) -> Vec<(String, Vec<u64>)> {
    let pairs = specs.iter().map(|s| (s.name.clone(), s.shape.clone()));
    pairs.collect()
}

/// Values, counts and what is claimed about them. A gate uses it up: the values are in memory once.
#[pyclass(frozen, module = "aegis_engine")]
pub struct Proposal {
    inner: Mutex<Option<aegis_policy::Proposal>>,
}

#[pymethods]
impl Proposal {
    #[new]
    #[pyo3(signature = (update, *, tensors, metrics, secure_aggregation, weight))]
    fn new(
        py: Python<'_>,
        update: &Bound<'_, PyAny>,
        tensors: Vec<(String, Vec<u64>)>,
        metrics: BTreeMap<String, i64>,
        secure_aggregation: bool,
        weight: u64,
    ) -> PyResult<Self> {
        Ok(Self {
            inner: Mutex::new(Some(aegis_policy::Proposal {
                update: floats(py, update)?,
                tensors: specs(tensors),
                metrics,
                secure_aggregation,
                weight,
            })),
        })
    }

    fn __repr__(&self) -> String {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &*inner {
            Some(inner) => format!("<{inner:?}>"),
            None => "<Proposal, used up>".to_owned(),
        }
    }
}

impl Proposal {
    pub fn take(&self) -> PyResult<aegis_policy::Proposal> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.take().ok_or_else(|| {
            PyValueError::new_err("this proposal was at a gate already: make a new one")
        })
    }
}

/// What the run's contract and the node's operator let out.
#[pyclass(frozen, module = "aegis_engine")]
pub struct Limits {
    pub inner: GateLimits,
}

#[pymethods]
impl Limits {
    #[new]
    #[pyo3(signature = (*, contract, metrics_allowed, weight_max, max_norm, min_rows=0))]
    fn new(
        contract: Vec<(String, Vec<u64>)>,
        metrics_allowed: Vec<String>,
        weight_max: u64,
        max_norm: f64,
        min_rows: u64,
    ) -> Self {
        Self {
            inner: GateLimits {
                contract: specs(contract),
                max_norm,
                metrics_allowed: metrics_allowed.into_iter().collect(),
                weight_max,
                min_rows,
            },
        }
    }

    #[getter]
    fn contract(&self) -> Vec<(String, Vec<u64>)> {
        told(&self.inner.contract)
    }

    #[getter]
    fn metrics_allowed(&self) -> Vec<String> {
        self.inner.metrics_allowed.iter().cloned().collect()
    }

    #[getter]
    fn weight_max(&self) -> u64 {
        self.inner.weight_max
    }

    #[getter]
    fn max_norm(&self) -> f64 {
        self.inner.max_norm
    }

    #[getter]
    fn min_rows(&self) -> u64 {
        self.inner.min_rows
    }

    fn __repr__(&self) -> String {
        format!(
            "<Limits: norm {}, weight {}, {} tensors>",
            self.inner.max_norm,
            self.inner.weight_max,
            self.inner.contract.len()
        )
    }
}

/// What is asked and what is allowed: two objects, or the buffer and keywords of the earlier form.
pub fn asked(
    py: Python<'_>,
    proposal: &Bound<'_, PyAny>,
    limits: Option<&Bound<'_, Limits>>,
    loose: Option<&Bound<'_, PyDict>>,
) -> PyResult<(aegis_policy::Proposal, GateLimits)> {
    const OF_PROPOSAL: [&str; 4] = ["tensors", "metrics", "secure_aggregation", "weight"];
    match (proposal.cast::<Proposal>(), limits, loose) {
        (Ok(proposal), Some(limits), None) => {
            let limits = limits.get().inner.clone();
            Ok((proposal.get().take()?, limits))
        }
        (Err(_), None, Some(words)) => {
            earlier::warn(py, "Proposal(update, ...) and Limits(...)")?;
            let (own, others) = (PyDict::new(py), PyDict::new(py));
            for (name, value) in words {
                let name: String = name.extract()?;
                let of = if OF_PROPOSAL.contains(&name.as_str()) {
                    &own
                } else {
                    &others
                };
                of.set_item(name, value)?;
            }
            let limits = py.get_type::<Limits>().call((), Some(&others))?;
            let made = py.get_type::<Proposal>().call((proposal,), Some(&own))?;
            let limits = limits.cast::<Limits>()?.get().inner.clone();
            Ok((made.cast::<Proposal>()?.get().take()?, limits))
        }
        _ => Err(PyTypeError::new_err(
            "a gate takes a Proposal and its Limits",
        )),
    }
}
