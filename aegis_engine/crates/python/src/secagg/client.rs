//! The client's machine.

use std::sync::Mutex;

use aegis_secagg::{ClientLimits, ClientRun, SecAggError, Sums};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::machine::{lock, members};
use super::roster::Identity;
use crate::convert::digest;
use crate::error::Result;
use crate::permits::Release;

#[pyclass(frozen, module = "aegis_engine")]
pub struct SecAggClient {
    inner: Mutex<ClientRun>,
}

#[pymethods]
impl SecAggClient {
    #[new]
    #[pyo3(signature = (run_id, node_id, *, min_cohort, min_threshold, metrics, metric_max, weight_max, identity=None, roster=None,
        colluding_percent=10, min_honest=2, require_commit=false, policy=None, same_policy=false))]
    fn new(
        run_id: u64,
        node_id: u64,
        min_cohort: u32,
        min_threshold: u32,
        metrics: Vec<String>,
        metric_max: u64,
        weight_max: u64,
        identity: Option<&Identity>,
        roster: Option<Vec<Vec<u8>>>,
        colluding_percent: u32,
        min_honest: u32,
        require_commit: bool,
        policy: Option<&[u8]>,
        same_policy: bool,
    ) -> Result<Self> {
        let limits = ClientLimits {
            min_cohort,
            min_threshold,
            roster: members(roster)?,
            colluding_percent,
            min_honest,
            require_commit,
            policy: policy.map(digest).transpose()?.unwrap_or_default(),
            same_policy,
            sums: Some(Sums {
                metrics,
                metric_max,
                weight_max,
            }),
        };
        let client = match identity {
            Some(identity) => {
                ClientRun::with_identity(run_id, node_id, limits, identity.inner.seed())?
            }
            None => ClientRun::new(run_id, node_id, limits)?,
        };
        Ok(Self {
            inner: Mutex::new(client),
        })
    }

    #[staticmethod]
    fn from_bytes(state: &[u8]) -> Result<Self> {
        Ok(Self {
            inner: Mutex::new(ClientRun::from_bytes(state)?),
        })
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &lock(&self.inner).to_bytes())
    }

    #[getter]
    fn answers(&self) -> u64 {
        lock(&self.inner).answers()
    }

    fn advertise<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &lock(&self.inner).advertise()?))
    }

    fn share<'py>(&self, py: Python<'py>, request: &[u8]) -> Result<Bound<'py, PyBytes>> {
        let reply = py.detach(|| lock(&self.inner).share(request))?;
        Ok(PyBytes::new(py, &reply))
    }

    #[pyo3(signature = (request, *, dim))]
    fn check_masked(&self, py: Python<'_>, request: &[u8], dim: usize) -> Result<()> {
        Ok(py.detach(|| lock(&self.inner).check_masked(request, dim))?)
    }

    #[pyo3(signature = (request, release, *, binding, dim=None))]
    fn masked_input<'py>(
        &self,
        py: Python<'py>,
        request: &[u8],
        release: &Release,
        binding: &[u8],
        dim: Option<usize>,
    ) -> Result<Bound<'py, PyBytes>> {
        let binding = digest(binding)?;
        let release = &release.inner;
        let mut failed = None;
        let dim = match (release.update().len(), dim) {
            (0, Some(dim)) => dim,
            (own, _) => own,
        };
        let len = py.detach(|| lock(&self.inner).masked_len(dim))?;
        // masked where Python will read it: the vector is in memory once
        let reply = PyBytes::new_with(py, len, |out| {
            let masked =
                py.detach(|| mask(&mut lock(&self.inner), request, &binding, release, out));
            failed = masked.err();
            Ok(())
        })?;
        failed.map_or(Ok(reply), |error| Err(error.into()))
    }

    fn commit<'py>(&self, py: Python<'py>, request: &[u8]) -> Result<Bound<'py, PyBytes>> {
        let reply = py.detach(|| lock(&self.inner).commit(request))?;
        Ok(PyBytes::new(py, &reply))
    }

    fn unmask<'py>(&self, py: Python<'py>, request: &[u8]) -> Result<Bound<'py, PyBytes>> {
        let reply = py.detach(|| lock(&self.inner).unmask(request))?;
        Ok(PyBytes::new(py, &reply))
    }
}

fn mask(
    client: &mut ClientRun,
    request: &[u8],
    binding: &[u8; 32],
    release: &aegis_policy::Release,
    out: &mut [u8],
) -> std::result::Result<(), SecAggError> {
    let plan = client.plan().ok_or(SecAggError::WrongStep {
        step: "masked input",
        reason: "no round was begun; the share step comes first",
    })?;
    let metrics: Vec<i64> = plan
        .metrics
        .iter()
        .map(|name| release.metrics().get(name).copied().unwrap_or(0))
        .collect();
    // A release of metrics alone adds nothing to the model. Its `dim` was held against the client's own by `masked_len`.
    let none = if release.update().is_empty() {
        vec![0.0; usize::try_from(plan.dim).unwrap_or(usize::MAX)]
    } else {
        Vec::new()
    };
    let update = if none.is_empty() {
        release.update()
    } else {
        &none
    };
    client.masked_input_into(request, binding, update, release.weight(), &metrics, out)
}
