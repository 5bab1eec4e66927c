//! What a data set's governance rows say, kept from where they were read so that nobody reads them again.

use aegis_policy::DatasetFacts;
use aegis_vault::{Dataset, Vault};
use pyo3::prelude::*;

use crate::convert::to_python;
use crate::error::Result;

/// Name, type and values per row of each column.
pub type Columns = Vec<(String, String, u32)>;

/// The facts, whose budgets the rows spend, and the columns. No row and no pseudonym is in it.
pub struct Facts {
    laid_down: DatasetFacts,
    lineages: Vec<String>,
    pub columns: Columns,
}

impl Facts {
    pub fn of(vault: &Vault, dataset: &Dataset) -> Result<Self> {
        Ok(Self {
            laid_down: dataset.facts.clone(),
            lineages: dataset.lineages(vault)?,
            columns: dataset.layout.columns(),
        })
    }

    #[allow(clippy::cast_precision_loss)] // micro-units of a budget far below 2^52
    pub fn budget_epsilon(&self) -> f64 {
        self.laid_down.budget_micro_epsilon as f64 / 1e6
    }

    /// All that the steward laid down, defaults filled in.
    pub fn terms<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let facts = &self.laid_down;
        let terms = serde_json::json!({
            "purposes": facts.purposes,
            "columns": facts.columns,
            "approved_columns": facts.approved_columns,
            "min_rows": facts.min_rows,
            "min_subjects": facts.min_subjects,
            "require_dp": facts.require_dp,
            "require_secure_aggregation": facts.require_secure_aggregation,
            "budget_micro_epsilon": facts.budget_micro_epsilon,
            "budget_epsilon": self.budget_epsilon(),
            "controller": facts.controller,
            "role": facts.role.name(),
            "delta": facts.delta(),
            "max_evaluations": facts.max_evaluations,
            "lineage": self.lineages.first(),
            "lineages": self.lineages,
        });
        to_python(py, &terms)
    }
}
