//! The server's machine.

use std::sync::Mutex;

use aegis_secagg::ServerRun;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::machine::{lock, members};
use super::plan::SecAggPlan;
use super::sum::SecAggSum;
use crate::convert::digest;
use crate::earlier::given_or_made;
use crate::error::Result;

#[pyclass(frozen, module = "aegis_engine")]
pub struct SecAggServer {
    inner: Mutex<ServerRun>,
}

#[pymethods]
impl SecAggServer {
    #[new]
    #[pyo3(signature = (run_id, plan=None, *, roster=None, **loose))]
    fn new(
        py: Python<'_>,
        run_id: u64,
        plan: Option<&Bound<'_, SecAggPlan>>,
        roster: Option<Vec<Vec<u8>>>,
        loose: Option<&Bound<'_, PyDict>>,
    ) -> Result<Self> {
        let plan = given_or_made(py, plan, loose, SecAggPlan::WRITTEN)?;
        let mut server = plan.server(run_id)?;
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

/// The fewest honest inputs a server with `colluders` clients can bring into a sum it reads, in a complete graph.
#[pyfunction]
#[pyo3(signature = (clients, colluders, *, commit=false))]
pub fn honest_inputs(clients: u32, colluders: u32, commit: bool) -> u32 {
    aegis_secagg::honest_inputs(clients, aegis_secagg::threshold(clients), colluders, commit)
}
