//! Secure aggregation: the state machines of client and server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_secagg::{
    ClientLimits, ClientRun, Encoding, Plan, Profile, Roster, SecAggError, ServerRun, Sums,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{digest, floats};
use crate::error::Result;
use crate::policy::Release;
use crate::roster::Identity;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The machines change nothing when they refuse, so a panic half-way is the only way here; their own checks hold.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn members(roster: Option<Vec<Vec<u8>>>) -> Result<Option<Roster>> {
    let pinned = roster.map(|all| all.iter().map(|key| digest(key)).collect());
    Ok(pinned.transpose()?)
}

#[pyclass(frozen, module = "aegis_engine")]
struct SecAggClient {
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

fn plan(
    dim: u64,
    metrics: Vec<String>,
    clip: f64,
    value_bits: u8,
    weight_max: u64,
    metric_max: u64,
    max_clients: u32,
) -> Plan {
    Plan {
        dim,
        metrics,
        encoding: Encoding {
            clip,
            value_bits,
            weight_max,
            metric_max,
        },
        n_max: max_clients,
    }
}

#[pyclass(frozen, module = "aegis_engine")]
struct SecAggServer {
    inner: Mutex<ServerRun>,
}

#[pymethods]
impl SecAggServer {
    #[new]
    #[pyo3(signature = (run_id, *, dim, metrics, clip, value_bits, weight_max, metric_max, max_clients, min_clients,
        sparse=None, commit=false, roster=None))]
    fn new(
        run_id: u64,
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
        roster: Option<Vec<Vec<u8>>>,
    ) -> Result<Self> {
        let profile = match sparse {
            Some((colluding, lost)) => Profile::Sparse { colluding, lost },
            None => Profile::Complete { commit },
        };
        let plan = plan(
            dim,
            metrics,
            clip,
            value_bits,
            weight_max,
            metric_max,
            max_clients,
        );
        let mut server = ServerRun::new(run_id, plan, min_clients)?.with_profile(profile);
        if let Some(roster) = members(roster)? {
            server = server.with_roster(roster);
        }
        Ok(Self {
            inner: Mutex::new(server),
        })
    }

    #[getter]
    fn threshold(&self) -> u32 {
        lock(&self.inner).shape().map_or(0, |shape| shape.threshold)
    }

    #[getter]
    fn degree(&self) -> u32 {
        lock(&self.inner).shape().map_or(0, |shape| shape.degree)
    }

    #[getter]
    fn has_commit_step(&self) -> bool {
        lock(&self.inner).shape().is_some_and(|shape| shape.commit)
    }

    #[getter]
    fn need(&self) -> u32 {
        lock(&self.inner).need()
    }

    #[getter]
    fn cohort(&self) -> Vec<u64> {
        lock(&self.inner).cohort()
    }

    #[getter]
    fn missing(&self) -> Vec<u64> {
        lock(&self.inner).missing()
    }

    fn fork(&self) -> Self {
        Self {
            inner: Mutex::new(lock(&self.inner).fork()),
        }
    }

    #[getter]
    fn ring_bits(&self) -> Result<u32> {
        Ok(lock(&self.inner).plan().width()?.bits())
    }

    fn add_advert(&self, node: u64, message: &[u8]) -> Result<Option<u64>> {
        Ok(lock(&self.inner).add_advert(node, message)?)
    }

    fn bind(&self, binding: &[u8]) -> Result<()> {
        lock(&self.inner).bind(digest(binding)?);
        Ok(())
    }

    fn begin_round<'py>(
        &self,
        py: Python<'py>,
        round: u64,
        cohort: Vec<u64>,
    ) -> Result<Bound<'py, PyBytes>> {
        let request = lock(&self.inner).begin_round(round, &cohort)?;
        Ok(PyBytes::new(py, &request))
    }

    fn add_share(&self, node: u64, message: &[u8]) -> Result<()> {
        Ok(lock(&self.inner).add_share(node, message)?)
    }

    fn end_shares(&self) -> Result<Vec<u64>> {
        Ok(lock(&self.inner).end_shares()?)
    }

    fn masked_request<'py>(&self, py: Python<'py>, node: u64) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &lock(&self.inner).masked_request(node)?))
    }

    fn add_masked(&self, py: Python<'_>, node: u64, message: &[u8]) -> Result<()> {
        Ok(py.detach(|| lock(&self.inner).add_masked(node, message))?)
    }

    fn end_masked(&self) -> Result<Vec<u64>> {
        Ok(lock(&self.inner).end_masked()?)
    }

    fn commit_request<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &lock(&self.inner).commit_request()?))
    }

    fn add_commit(&self, node: u64, message: &[u8]) -> Result<()> {
        Ok(lock(&self.inner).add_commit(node, message)?)
    }

    #[pyo3(signature = (node, next=None))]
    fn unmask_request<'py>(
        &self,
        py: Python<'py>,
        node: u64,
        next: Option<&[u8]>,
    ) -> Result<Bound<'py, PyBytes>> {
        let request = lock(&self.inner).unmask_request(node, next)?;
        Ok(PyBytes::new(py, &request))
    }

    fn add_unmask<'py>(
        &self,
        py: Python<'py>,
        node: u64,
        message: &[u8],
    ) -> Result<Option<Bound<'py, PyBytes>>> {
        let riding = lock(&self.inner).add_unmask(node, message)?;
        Ok(riding.map(|share| PyBytes::new(py, &share)))
    }

    fn finish(&self, py: Python<'_>) -> Result<SecAggSum> {
        Ok(SecAggSum {
            inner: py.detach(|| lock(&self.inner).finish())?,
        })
    }
}

#[pyclass(frozen, module = "aegis_engine")]
struct SecAggSum {
    inner: aegis_secagg::Sum,
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

/// The fewest honest inputs a server with `colluders` clients can bring into a sum it reads, in a complete graph.
#[pyfunction]
#[pyo3(signature = (clients, colluders, *, commit=false))]
fn honest_inputs(clients: u32, colluders: u32, commit: bool) -> u32 {
    aegis_secagg::honest_inputs(clients, aegis_secagg::threshold(clients), colluders, commit)
}

/// The plain integers of one contribution, for comparisons with an unmasked sum.
#[pyfunction]
#[pyo3(signature = (update, weight, metrics, *, names, clip, value_bits, weight_max, metric_max, max_clients))]
fn encode_update(
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
    let plan = plan(
        values.len() as u64,
        names,
        clip,
        value_bits,
        weight_max,
        metric_max,
        max_clients,
    );
    Ok(aegis_secagg::encode(&values, weight, &metrics, &plan)?)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<SecAggClient>()?;
    m.add_class::<SecAggServer>()?;
    m.add_class::<SecAggSum>()?;
    m.add_function(wrap_pyfunction!(honest_inputs, m)?)?;
    m.add_function(wrap_pyfunction!(encode_update, m)?)
}
