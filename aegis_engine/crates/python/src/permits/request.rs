//! What a run asks for.

use std::time::Duration;

use aegis_policy::Action;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::convert::action;

/// A question to the compliance engine, about whatever data set it is asked of.
#[pyclass(frozen, module = "aegis_engine")]
#[derive(Clone)]
pub struct Request {
    action: Action,
    #[pyo3(get)]
    purpose: String,
    #[pyo3(get)]
    columns: Option<Vec<String>>,
    #[pyo3(get)]
    run: String,
    #[pyo3(get)]
    round: u64,
    #[pyo3(get)]
    node: String,
    #[pyo3(get)]
    app_hash: String,
    #[pyo3(get)]
    minutes: f64,
}

#[pymethods]
impl Request {
    #[new]
    #[pyo3(signature = (*, action, purpose, columns=None, run=String::new(), round=0, node=String::new(), app_hash=String::new(), minutes=10.0))]
    fn new(
        action: &str,
        purpose: String,
        columns: Option<Vec<String>>,
        run: String,
        round: u64,
        node: String,
        app_hash: String,
        minutes: f64,
    ) -> PyResult<Self> {
        let seconds = minutes * 60.0;
        if !(seconds.is_finite() && (1.0..=86400.0).contains(&seconds)) {
            return Err(PyValueError::new_err(format!(
                "a permit lasts 1 second to 24 hours, not {minutes} minutes"
            )));
        }
        Ok(Self {
            action: self::action(action)?,
            purpose,
            columns,
            run,
            round,
            node,
            app_hash,
            minutes,
        })
    }

    #[getter]
    fn action(&self) -> &'static str {
        self.action.name()
    }

    fn __repr__(&self) -> String {
        format!("<Request to {} for {:?}>", self.action(), self.purpose)
    }
}

impl Request {
    /// How a caller writes one.
    pub const WRITTEN: &str = "Request(action=..., purpose=...)";

    /// The question about one data set. Without columns it is about all that are approved.
    pub fn about(
        self,
        vault: &aegis_vault::Vault,
        dataset: &aegis_vault::Dataset,
        today: Option<u32>,
    ) -> aegis_policy::Request {
        let facts = &dataset.facts;
        let approved = || {
            let columns = facts.columns.iter();
            columns
                .filter(|c| facts.approved_columns.contains(*c))
                .cloned()
                .collect()
        };
        aegis_policy::Request {
            vault: vault.id(),
            object: dataset.id,
            action: self.action,
            purpose: self.purpose,
            columns: self.columns.unwrap_or_else(approved),
            run: self.run,
            round: self.round,
            app_hash: self.app_hash,
            valid_for: Duration::from_secs_f64(self.minutes * 60.0),
            today,
            node: self.node,
        }
    }
}
