//! What the data steward fixed for a dataset at ingest, sealed with it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::error::PolicyError;
use crate::words;

/// Units of [`DatasetFacts::delta_femto`] in 1.
pub const FEMTO: u64 = 1_000_000_000_000_000;
/// The smallest δ a dataset may have, 1e-12: below it accountants are numerically meaningless.
pub const DELTA_MIN_FEMTO: u64 = 1_000;
/// The largest, 1e-2.
pub const DELTA_MAX_FEMTO: u64 = 10_000_000_000_000;
/// The largest budget, ε = 1 000 000: no protection at all, and still no overflow.
pub const BUDGET_MAX_MICRO: u64 = 1_000_000_000_000;

const DELTA: u64 = 10_000_000_000;
const EVALUATIONS: u64 = 100;

/// The legal bases of GDPR article 6(1), in the order of their codes in an encoded index.
pub const BASES: [&str; 6] = [
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_task",
    "legitimate_interests",
];

/// What the rows are for: a holdout's people may be a training set's people, their budgets are kept apart.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Models are trained on it.
    #[default]
    Train,
    /// Models are measured on it.
    Holdout,
}

impl Role {
    /// The name used in facts and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Holdout => "holdout",
        }
    }

    /// The role that a name says, where nobody else does.
    pub fn of_name(name: &str) -> Self {
        if name.ends_with(".holdout") {
            Self::Holdout
        } else {
            Self::Train
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
    fn is_train(&self) -> bool {
        *self == Self::Train
    }
}

/// What the data steward fixed for a dataset at ingest. A researcher's request can only narrow it.
///
/// Fields that came later are left out where they have their default, so that the facts of an older dataset are the same
/// bytes as ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFacts {
    /// Purposes the data may be used for.
    pub purposes: BTreeSet<String>,
    /// All columns, in record order.
    pub columns: Vec<String>,
    /// Columns that may be asked for.
    pub approved_columns: BTreeSet<String>,
    /// Fewest rows an update may rest on.
    pub min_rows: u64,
    /// Fewest distinct subjects an update may rest on.
    pub min_subjects: u64,
    /// Whether an update must carry differential privacy.
    pub require_dp: bool,
    /// Whether an update must be masked by secure aggregation.
    pub require_secure_aggregation: bool,
    /// Most privacy loss over the dataset's life, in millionths of epsilon.
    pub budget_micro_epsilon: u64,
    /// Who answers for the data (GDPR article 4(7)).
    pub controller: String,
    /// What the rows are for.
    #[serde(default, skip_serializing_if = "Role::is_train")]
    pub role: Role,
    /// Whose budgets the rows spend, 32 hex digits each, the oldest first: the vault fills it in when it stores the
    /// dataset. Empty in datasets from before there were lineages; theirs is derived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineages: Vec<String>,
    /// δ that ε is stated at, in units of 1e-15.
    #[serde(default = "delta", skip_serializing_if = "is_delta")]
    pub delta_femto: u64,
    /// Most evaluations of one run on these rows.
    #[serde(default = "evaluations", skip_serializing_if = "is_evaluations")]
    pub max_evaluations: u64,
}

fn delta() -> u64 {
    DELTA
}
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_delta(value: &u64) -> bool {
    *value == DELTA
}
fn evaluations() -> u64 {
    EVALUATIONS
}
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_evaluations(value: &u64) -> bool {
    *value == EVALUATIONS
}

impl Default for DatasetFacts {
    /// No purpose, no column, no budget: allows nothing.
    fn default() -> Self {
        Self {
            purposes: BTreeSet::new(),
            columns: Vec::new(),
            approved_columns: BTreeSet::new(),
            min_rows: 0,
            min_subjects: 0,
            require_dp: true,
            require_secure_aggregation: true,
            budget_micro_epsilon: 0,
            controller: String::new(),
            role: Role::Train,
            lineages: Vec::new(),
            delta_femto: DELTA,
            max_evaluations: EVALUATIONS,
        }
    }
}

impl DatasetFacts {
    /// δ that ε is stated at.
    #[allow(clippy::cast_precision_loss)] // below 2^53 by the bound
    pub fn delta(&self) -> f64 {
        // Both are exact in f64, so the quotient is the nearest one to the decimal that was meant.
        self.delta_femto as f64 / FEMTO as f64
    }

    /// Whether the values are ones that mean something, before they are sealed for good.
    pub fn check(&self) -> Result<(), PolicyError> {
        for purpose in &self.purposes {
            words::purpose(purpose).map_err(PolicyError::from)?;
        }
        if let Some(other) = self
            .approved_columns
            .iter()
            .find(|c| !self.columns.contains(c))
        {
            return Err(PolicyError::bad(format!(
                "approved_columns has {other:?}, which is no column; the columns are {}",
                self.columns.join(", ")
            )));
        }
        if !(DELTA_MIN_FEMTO..=DELTA_MAX_FEMTO).contains(&self.delta_femto) {
            return Err(PolicyError::bad("delta lies between 1e-12 and 1e-2"));
        }
        if self.budget_micro_epsilon > BUDGET_MAX_MICRO {
            return Err(PolicyError::bad("budget_epsilon is at most 1000000"));
        }
        if self.controller.len() > words::LONGEST || self.controller.chars().any(char::is_control) {
            return Err(PolicyError::bad(
                "controller has at most 256 bytes and no control characters",
            ));
        }
        let hex = |text: &String| {
            text.len() == 32 && text.bytes().all(|b| b"0123456789abcdef".contains(&b))
        };
        if let Some(other) = self.lineages.iter().find(|lineage| !hex(lineage)) {
            return Err(PolicyError::bad(format!(
                "lineage {other:?} is not 32 lower-case hex digits"
            )));
        }
        Ok(())
    }

    /// SHA-256 over all fields: a permit keeps it, so that a release is judged by the facts of its decision.
    pub fn hash(&self) -> [u8; 32] {
        let list = |items: &mut dyn Iterator<Item = &String>| {
            let parts: Vec<&[u8]> = items.map(String::as_bytes).collect();
            sha256(&parts)
        };
        let mut numbers = Vec::new();
        for number in [
            self.min_rows,
            self.min_subjects,
            u64::from(self.require_dp),
            u64::from(self.require_secure_aggregation),
            self.budget_micro_epsilon,
            self.delta_femto,
            self.max_evaluations,
            u64::from(self.role == Role::Holdout),
        ] {
            numbers.extend_from_slice(&number.to_le_bytes());
        }
        sha256(&[
            b"aegis dataset facts 2",
            &list(&mut self.purposes.iter()),
            &list(&mut self.columns.iter()),
            &list(&mut self.approved_columns.iter()),
            &list(&mut self.lineages.iter()),
            &numbers,
            self.controller.as_bytes(),
        ])
    }
}
