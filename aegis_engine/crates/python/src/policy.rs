//! Permits, the compliance engine, releases.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_policy::{Action, Bundle, Engine, GateLimits, Proposal, Request, TensorSpec};
use aegis_vault::VaultError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use aegis_folder::Folder;

use crate::audit::select;
use crate::convert::{float_bytes, floats, uuid};
use crate::error::Result;
use crate::vault::Vault;

#[pyclass(frozen, module = "aegis_engine")]
pub struct Permit {
    pub inner: Arc<aegis_policy::Permit>,
}

#[pymethods]
impl Permit {
    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }
    #[getter]
    fn object(&self) -> String {
        self.inner.object().to_string()
    }
    #[getter]
    fn action(&self) -> &'static str {
        self.inner.action().name()
    }
    #[getter]
    fn purpose(&self) -> &str {
        self.inner.purpose()
    }
    #[getter]
    fn rows(&self) -> u64 {
        self.inner.row_count()
    }
    #[getter]
    fn subjects(&self) -> u64 {
        self.inner.subjects()
    }
    #[getter]
    fn round(&self) -> u64 {
        self.inner.round()
    }
    #[getter]
    fn uses(&self) -> u64 {
        self.inner.uses()
    }
    fn __repr__(&self) -> String {
        let p = &self.inner;
        format!(
            "<Permit {} to {} {} rows for {:?}>",
            p.id(),
            p.action().name(),
            p.row_count(),
            p.purpose()
        )
    }
}

pub fn action(name: &str) -> PyResult<Action> {
    Action::parse(name).ok_or_else(|| {
        PyValueError::new_err(format!(
            "{name:?} is no action; take read, train, evaluate or export"
        ))
    })
}

/// `core`, or a folder with `schema.cedarschema` and policies.
pub fn bundle(name: &str) -> Result<Bundle> {
    if name == "core" {
        Ok(Bundle::core())
    } else {
        Ok(Bundle::load(Path::new(name))?)
    }
}

/// Keeps a copy of a bundle's files with the vault; the hash in the keystore says whether they are the right ones.
pub fn keep(bundle: &Bundle, from: &Path, vault: &Folder) -> Result<()> {
    let io = |source: std::io::Error| VaultError::Io {
        op: "copy policies to",
        path: "policy".into(),
        source,
    };
    let ours = |path: &Path| {
        path.extension()
            .is_some_and(|e| e == "cedar" || e == "cedarschema")
    };
    let folder = vault.place("policy");
    folder.mkdir().map_err(io)?;
    // What a bundle that was replaced left there.
    for entry in folder.list().map_err(io)? {
        if ours(Path::new(&entry.name)) && !from.join(&entry.name).exists() {
            entry.place.unlink().map_err(io)?;
        }
    }
    for entry in fs::read_dir(from).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if ours(&path)
            && let Some(name) = path.file_name()
        {
            let text = fs::read(&path).map_err(io)?;
            folder.join(name).replace(&text).map_err(io)?;
        }
    }
    let copied = Bundle::load_kept(&folder)?;
    if copied.hash() != bundle.hash() {
        let what = format!(
            "{} changed while it was copied; govern the vault again",
            from.display()
        );
        return Err(VaultError::BadRequest { what }.into());
    }
    Ok(())
}

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

/// The newest head of the consent ledger that the audit log remembers must lie in the ledger's chain: otherwise an
/// older ledger was put back, and withdrawals with it.
fn consent_not_rolled_back(vault: &Folder) -> Result<()> {
    let newest = select(&vault.place("audit"), |body| body["event"] == "consent")?.pop();
    let head = newest.and_then(|record| {
        format!("{}:{}", record["records"], record["head"].as_str()?)
            .parse::<aegis_audit::Head>()
            .ok()
    });
    aegis_audit::verify(&vault.place("consent"), None, head.as_ref())?;
    Ok(())
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
        let core = Bundle::core();
        let bundle = if core.hash() == pinned {
            core
        } else {
            Bundle::load_kept(&vault.folder().place("policy"))?
        };
        if bundle.hash() != pinned {
            let what = "the policies beside the vault are not the ones it was put under; restore its policy folder";
            return Err(VaultError::BadRequest { what: what.into() }.into());
        }
        consent_not_rolled_back(vault.folder())?;
        Ok(Self {
            vault,
            engine: Engine::new(bundle)?,
        })
    }

    #[getter]
    fn bundle_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.engine.bundle().hash())
    }

    #[pyo3(signature = (dataset, *, action, purpose, columns=None, run="", round=0, node="", app_hash="", minutes=10.0, today=None))]
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
        today: Option<u32>,
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
            today,
        };
        let request = self.request(&found, asked, minutes)?;
        let (consent, log) = (self.vault.consent(), self.vault.audit());
        let authorized = py.detach(|| {
            self.engine
                .authorize(&request, &found.facts, &found.index, None, consent, log)
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
        let e = py.detach(|| {
            self.engine.explain(
                &request,
                &found.facts,
                &found.index,
                None,
                self.vault.consent(),
            )
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

    /// ε that all runs together may spend on a data set, as its steward laid down.
    #[allow(clippy::cast_precision_loss)] // micro-units of a budget far below 2^52
    fn budget_epsilon(&self, py: Python<'_>, dataset: &str) -> Result<f64> {
        let object = uuid(dataset)?;
        let found = py.detach(|| self.vault.dataset(object))?;
        Ok(found.facts.budget_micro_epsilon as f64 / 1e6)
    }

    #[pyo3(signature = (permit, update, *, tensors, contract, metrics, metrics_allowed, rows, subjects, dp, reservation, epsilon, secure_aggregation, weight, weight_max, max_norm, min_rows=0))]
    fn gate(
        &self,
        py: Python<'_>,
        permit: &Permit,
        update: &Bound<'_, PyAny>,
        tensors: Vec<(String, Vec<u64>)>,
        contract: Vec<(String, Vec<u64>)>,
        metrics: BTreeMap<String, i64>,
        metrics_allowed: Vec<String>,
        rows: u64,
        subjects: u64,
        dp: String,
        reservation: Option<String>,
        epsilon: f64,
        secure_aggregation: bool,
        weight: u64,
        weight_max: u64,
        max_norm: f64,
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
            rows,
            subjects,
            dp,
            reservation,
            epsilon_micro_total: micro(epsilon)?,
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
        let object = permit.inner.object();
        let released = py.detach(|| -> Result<_> {
            let facts = self.vault.dataset(object)?.facts;
            Ok(self
                .engine
                .gate(&permit.inner, proposal, &facts, &limits, self.vault.audit())?)
        })?;
        Ok(Release { inner: released })
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

/// An update that passed every gate; made only by [`ComplianceEngine::gate`].
#[pyclass(frozen, module = "aegis_engine")]
pub struct Release {
    pub inner: aegis_policy::Release,
}

#[pymethods]
impl Release {
    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }
    #[getter]
    fn weight(&self) -> u64 {
        self.inner.weight()
    }
    #[getter]
    fn gates(&self) -> Vec<(String, bool, String, String)> {
        let row = |g: &aegis_policy::GateResult| {
            (
                g.name.to_owned(),
                g.passed,
                g.observed.clone(),
                g.limit.clone(),
            )
        };
        self.inner.gates().iter().map(row).collect()
    }
    /// The update in clear; refused when it was released for secure aggregation only.
    fn update<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        if self.inner.secure_aggregation() {
            let what = "this update was released for secure aggregation; it leaves only masked";
            return Err(VaultError::BadRequest { what: what.into() }.into());
        }
        Ok(PyBytes::new(py, &float_bytes(self.inner.update())))
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Permit>()?;
    m.add_class::<ComplianceEngine>()?;
    m.add_class::<Release>()
}
