//! The compliance engine: requests in, permits and releases out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aegis_policy::{
    Action, Bundle, CountsNoise, Engine, GateLimits, Part, Proposal, Request, TensorSpec,
};
use aegis_vault::VaultError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::permit::Permit;
use super::release::Release;
use super::session::DpSession;
use crate::convert::{action, floats, to_python, uuid};
use crate::error::Result;
use crate::handle::Vault;

/// Decides over one vault, by the bundle the vault was put under.
#[pyclass(frozen, module = "aegis_engine")]
pub struct ComplianceEngine {
    vault: aegis_vault::Vault,
    engine: Engine,
}

impl ComplianceEngine {
    fn request(
        &self,
        dataset: &aegis_vault::Dataset,
        asked: Asked<'_>,
        minutes: f64,
    ) -> PyResult<Request> {
        let seconds = minutes * 60.0;
        if !(seconds.is_finite() && (1.0..=86400.0).contains(&seconds)) {
            return Err(PyValueError::new_err(format!(
                "a permit lasts 1 second to 24 hours, not {minutes} minutes"
            )));
        }
        let approved = || {
            dataset
                .facts
                .columns
                .iter()
                .filter(|c| dataset.facts.approved_columns.contains(*c))
                .cloned()
                .collect()
        };
        Ok(Request {
            vault: self.vault.id(),
            object: dataset.id,
            action: action(asked.action)?,
            purpose: asked.purpose.to_owned(),
            columns: asked.columns.unwrap_or_else(approved),
            run: asked.run.to_owned(),
            round: asked.round,
            app_hash: asked.app_hash.to_owned(),
            valid_for: Duration::from_secs_f64(seconds),
            today: asked.today,
            node: asked.node.to_owned(),
        })
    }
}

struct Asked<'a> {
    action: &'a str,
    purpose: &'a str,
    columns: Option<Vec<String>>,
    run: &'a str,
    round: u64,
    node: &'a str,
    app_hash: &'a str,
    today: Option<u32>,
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

    #[pyo3(signature = (dataset, *, action, purpose, columns=None, run="", round=0, node="", app_hash="", minutes=10.0))]
    fn authorize(
        &self,
        py: Python<'_>,
        dataset: &str,
        action: &str,
        purpose: &str,
        columns: Option<Vec<String>>,
        run: &str,
        round: u64,
        node: &str,
        app_hash: &str,
        minutes: f64,
    ) -> Result<Permit> {
        let object = uuid(dataset)?;
        let found = py.detach(|| self.vault.dataset(object))?;
        let asked = Asked {
            action,
            purpose,
            columns,
            run,
            round,
            node,
            app_hash,
            today: None,
        };
        let request = self.request(&found, asked, minutes)?;
        let authorized = py.detach(|| -> Result<_> {
            let (consent, log) = (self.vault.consent()?, self.vault.audit());
            self.engine.not_before(self.vault.newest_time()?);
            Ok(self
                .engine
                .authorize(&request, &found.facts, &found.index, None, consent, log)?)
        })?;
        Ok(Permit {
            inner: Arc::new(authorized.permit),
        })
    }

    #[pyo3(signature = (dataset, *, action, purpose, columns=None, run="", round=0, node="", app_hash="", minutes=10.0, today=None))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        dataset: &str,
        action: &str,
        purpose: &str,
        columns: Option<Vec<String>>,
        run: &str,
        round: u64,
        node: &str,
        app_hash: &str,
        minutes: f64,
        today: Option<u32>,
    ) -> Result<Bound<'py, PyDict>> {
        let object = uuid(dataset)?;
        let found = py.detach(|| self.vault.dataset(object))?;
        let asked = Asked {
            action,
            purpose,
            columns,
            run,
            round,
            node,
            app_hash,
            today,
        };
        let request = self.request(&found, asked, minutes)?;
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
    #[allow(clippy::cast_precision_loss)] // micro-units of a budget far below 2^52
    fn terms<'py>(&self, py: Python<'py>, dataset: &str) -> Result<Bound<'py, PyAny>> {
        let object = uuid(dataset)?;
        let (found, lineages) = py.detach(|| -> Result<_> {
            Ok((self.vault.dataset(object)?, self.vault.lineages(object)?))
        })?;
        let facts = found.facts;
        let terms = serde_json::json!({
            "purposes": facts.purposes,
            "columns": facts.columns,
            "approved_columns": facts.approved_columns,
            "min_rows": facts.min_rows,
            "min_subjects": facts.min_subjects,
            "require_dp": facts.require_dp,
            "require_secure_aggregation": facts.require_secure_aggregation,
            "budget_micro_epsilon": facts.budget_micro_epsilon,
            "budget_epsilon": facts.budget_micro_epsilon as f64 / 1e6,
            "controller": facts.controller,
            "role": facts.role.name(),
            "delta": facts.delta(),
            "max_evaluations": facts.max_evaluations,
            "lineage": lineages.first(),
            "lineages": lineages,
        });
        Ok(to_python(py, &terms)?)
    }

    /// Columns of a data set: name, dtype, values per record. The rows stay closed, so no permit is asked for.
    fn layout(&self, py: Python<'_>, dataset: &str) -> Result<Vec<(String, String, u32)>> {
        let object = uuid(dataset)?;
        let found = py.detach(|| self.vault.dataset(object))?;
        let columns = &found.records()?.columns;
        let one = |c: &aegis_vault::Column| (c.name.clone(), c.dtype.name().to_owned(), c.count);
        Ok(columns.iter().map(one).collect())
    }

    /// ε that all runs together may spend on a data set, as its steward laid down.
    #[allow(clippy::cast_precision_loss)] // micro-units of a budget far below 2^52
    fn budget_epsilon(&self, py: Python<'_>, dataset: &str) -> Result<f64> {
        let object = uuid(dataset)?;
        let found = py.detach(|| self.vault.dataset(object))?;
        Ok(found.facts.budget_micro_epsilon as f64 / 1e6)
    }

    #[pyo3(signature = (permits, update, *, tensors, contract, metrics, metrics_allowed, secure_aggregation, weight, weight_max, max_norm, session=None, epsilon=0.0, counts=None, counts_seed=None, counts_reservation=None, counts_epsilon=0.0, min_rows=0))]
    fn gate(
        &self,
        py: Python<'_>,
        permits: Vec<PyRef<'_, Permit>>,
        update: &Bound<'_, PyAny>,
        tensors: Vec<(String, Vec<u64>)>,
        contract: Vec<(String, Vec<u64>)>,
        metrics: BTreeMap<String, i64>,
        metrics_allowed: Vec<String>,
        secure_aggregation: bool,
        weight: u64,
        weight_max: u64,
        max_norm: f64,
        session: Option<&DpSession>,
        epsilon: f64,
        counts: Option<(f64, u64, bool)>,
        counts_seed: Option<u64>,
        counts_reservation: Option<String>,
        counts_epsilon: f64,
        min_rows: u64,
    ) -> Result<Release> {
        let specs = |list: Vec<(String, Vec<u64>)>| -> Vec<TensorSpec> {
            list.into_iter()
                .map(|(name, shape)| TensorSpec { name, shape })
                .collect()
        };
        let proposal = Proposal {
            update: floats(py, update)?,
            tensors: specs(tensors),
            metrics,
            secure_aggregation,
            weight,
        };
        let limits = GateLimits {
            contract: specs(contract),
            max_norm,
            metrics_allowed: metrics_allowed.into_iter().collect(),
            weight_max,
            min_rows,
        };
        let counts = counts.map(|(z, loss_cap_milli, histograms)| CountsNoise {
            z,
            loss_cap_milli,
            histograms,
            seed: counts_seed,
        });
        let (trained, evaluated) = (micro(epsilon)?, micro(counts_epsilon)?);
        let permits: Vec<_> = permits.iter().map(|p| Arc::clone(&p.inner)).collect();
        // Taken whatever comes of it: noise that was drawn once is released once.
        let session = session.map(DpSession::take).transpose()?;
        let released = py.detach(|| -> Result<_> {
            let facts = permits
                .iter()
                .map(|permit| Ok(self.vault.dataset(permit.object())?.facts))
                .collect::<Result<Vec<_>>>()?;
            let parts: Vec<Part<'_>> = permits
                .iter()
                .zip(&facts)
                .map(|(permit, facts)| {
                    let of_holdout = permit.action() == Action::Evaluate;
                    Part {
                        permit,
                        facts,
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
