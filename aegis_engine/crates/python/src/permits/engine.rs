//! The compliance engine: requests in, permits and releases out.

use std::sync::Arc;

use aegis_policy::{Action, Block, Bundle, CountsNoise, Engine, Part};
use aegis_vault::VaultError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::facts::{Columns, Facts};
use super::permit::Permit;
use super::proposal::{Limits, asked};
use super::release::Release;
use super::request::Request;
use super::session::DpSession;
use crate::convert::uuid;
use crate::earlier::given_or_made;
use crate::error::Result;
use crate::handle::Vault;

/// Noise multiplier of an evaluation, and cap and names of each block that it tells.
type Told = (f64, Vec<(u64, Vec<String>)>);

/// Decides over one vault, by the bundle the vault was put under.
#[pyclass(frozen, module = "aegis_engine")]
pub struct ComplianceEngine {
    vault: aegis_vault::Vault,
    engine: Engine,
}

impl ComplianceEngine {
    /// The data set and what is asked about it.
    fn question(
        &self,
        py: Python<'_>,
        dataset: &str,
        request: Option<&Bound<'_, Request>>,
        loose: Option<&Bound<'_, PyDict>>,
        today: Option<u32>,
    ) -> Result<(Arc<aegis_vault::Dataset>, aegis_policy::Request)> {
        let request = given_or_made(py, request, loose, Request::WRITTEN)?;
        let object = uuid(dataset)?;
        let found = py.detach(|| self.vault.dataset(object))?;
        let request = request.about(&self.vault, &found, today);
        Ok((found, request))
    }

    /// What a data set's governance rows say; for whom there is no permit yet, which has them.
    fn facts(&self, py: Python<'_>, dataset: &str) -> Result<Facts> {
        let object = uuid(dataset)?;
        py.detach(|| Facts::of(&self.vault, &*self.vault.dataset(object)?))
    }
}

#[pymethods]
impl ComplianceEngine {
    #[new]
    fn new(vault: &Vault) -> Result<Self> {
        let vault = vault.inner.clone();
        let Some(pinned) = vault.bundle_hash()? else {
            let what = "the vault has no policy bundle, so there is nothing to decide by; govern it (vault.govern(\"core\"))";
            return Err(VaultError::BadRequest { what: what.into() }.into());
        };
        let Some(bundle) = Bundle::pinned(pinned, &vault.folder().place("policy"))? else {
            let what = "the policies beside the vault are not the ones it was put under; restore its policy folder";
            return Err(VaultError::BadRequest { what: what.into() }.into());
        };
        vault.consent()?;
        Ok(Self {
            vault,
            engine: Engine::new(bundle)?,
        })
    }

    #[getter]
    fn bundle_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.engine.bundle().hash())
    }

    #[pyo3(signature = (dataset, request=None, **loose))]
    fn authorize(
        &self,
        py: Python<'_>,
        dataset: &str,
        request: Option<&Bound<'_, Request>>,
        loose: Option<&Bound<'_, PyDict>>,
    ) -> Result<Permit> {
        let (found, request) = self.question(py, dataset, request, loose, None)?;
        let (authorized, facts) = py.detach(|| -> Result<_> {
            let facts = Facts::of(&self.vault, &found)?;
            let (consent, log) = (self.vault.consent()?, self.vault.audit());
            self.engine.not_before(self.vault.newest_time()?);
            let authorized =
                self.engine
                    .authorize(&request, &found.facts, &found.index, None, consent, log)?;
            Ok((authorized, facts))
        })?;
        Ok(Permit {
            inner: Arc::new(authorized.permit),
            facts: Some(facts),
        })
    }

    #[pyo3(signature = (dataset, request=None, *, today=None, **loose))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        dataset: &str,
        request: Option<&Bound<'_, Request>>,
        today: Option<u32>,
        loose: Option<&Bound<'_, PyDict>>,
    ) -> Result<Bound<'py, PyDict>> {
        let (found, request) = self.question(py, dataset, request, loose, today)?;
        let e = py.detach(|| -> Result<_> {
            let consent = self.vault.consent()?;
            self.engine.not_before(self.vault.newest_time()?);
            Ok(self
                .engine
                .explain(&request, &found.facts, &found.index, None, consent)?)
        })?;
        let d = PyDict::new(py);
        d.set_item("allowed", e.allowed)?;
        d.set_item("policies", e.policies)?;
        d.set_item("advice", e.advice)?;
        d.set_item("errors", e.errors)?;
        d.set_item("rows", e.rows)?;
        d.set_item("subjects", e.subjects)?;
        d.set_item("denied", e.denied)?;
        Ok(d)
    }

    /// All that the steward laid down for a data set, defaults filled in.
    fn terms<'py>(&self, py: Python<'py>, dataset: &str) -> Result<Bound<'py, PyAny>> {
        Ok(self.facts(py, dataset)?.terms(py)?)
    }

    /// Columns of a data set: name, dtype, values per record. The rows stay closed, so no permit is asked for.
    fn layout(&self, py: Python<'_>, dataset: &str) -> Result<Columns> {
        Ok(self.facts(py, dataset)?.columns)
    }

    /// ε that all runs together may spend on a data set, as its steward laid down.
    fn budget_epsilon(&self, py: Python<'_>, dataset: &str) -> Result<f64> {
        Ok(self.facts(py, dataset)?.budget_epsilon())
    }

    #[pyo3(signature = (permits, proposal, limits=None, *, session=None, epsilon=0.0, counts=None, counts_seed=None, counts_reservation=None, counts_epsilon=0.0, **loose))]
    fn gate(
        &self,
        py: Python<'_>,
        permits: Vec<PyRef<'_, Permit>>,
        proposal: &Bound<'_, PyAny>,
        limits: Option<&Bound<'_, Limits>>,
        session: Option<&DpSession>,
        epsilon: f64,
        counts: Option<Told>,
        counts_seed: Option<u64>,
        counts_reservation: Option<String>,
        counts_epsilon: f64,
        loose: Option<&Bound<'_, PyDict>>,
    ) -> Result<Release> {
        let (proposal, limits) = asked(py, proposal, limits, loose)?;
        let counts = counts.map(|(z, blocks)| CountsNoise {
            z,
            blocks: blocks
                .into_iter()
                .map(|(cap, names)| Block { cap, names })
                .collect(),
            seed: counts_seed,
        });
        let (trained, evaluated) = (micro(epsilon)?, micro(counts_epsilon)?);
        let permits: Vec<_> = permits.iter().map(|p| Arc::clone(&p.inner)).collect();
        // Taken whatever comes of it: noise that was drawn once is released once.
        let session = session.map(DpSession::take).transpose()?;
        let released = py.detach(|| -> Result<_> {
            let sets = permits
                .iter()
                .map(|permit| self.vault.dataset(permit.object()))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            let parts: Vec<Part<'_>> = permits
                .iter()
                .zip(&sets)
                .map(|(permit, set)| {
                    let of_holdout = permit.action() == Action::Evaluate;
                    Part {
                        permit,
                        facts: &set.facts,
                        reservation: counts_reservation.clone().filter(|_| of_holdout),
                        epsilon_micro_total: if of_holdout { evaluated } else { trained },
                    }
                })
                .collect();
            let log = self.vault.audit();
            Ok(self
                .engine
                .gate(&parts, proposal, session, counts, &limits, log)?)
        })?;
        Ok(Release { inner: released })
    }

    /// Zero for each metric, of a node that has no rows to count.
    #[pyo3(signature = (metrics, *, secure_aggregation))]
    fn release_nothing(
        &self,
        py: Python<'_>,
        metrics: Vec<String>,
        secure_aggregation: bool,
    ) -> Result<Release> {
        let log = self.vault.audit();
        let inner = py.detach(|| {
            self.engine
                .release_nothing(metrics, secure_aggregation, log)
        })?;
        Ok(Release { inner })
    }
}

/// Millionths of ε, rounded up: a policy must never see less than was spent.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to lie in range
fn micro(epsilon: f64) -> PyResult<u64> {
    let units = (epsilon * 1e6).ceil();
    if (0.0..=9e15).contains(&units) {
        Ok(units as u64)
    } else {
        Err(PyValueError::new_err(format!(
            "ε must be finite and not negative, not {epsilon}"
        )))
    }
}
