//! What came of a request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::rows::Decided;
use crate::permit::Permit;

/// Id of the refusal by a clock that went back: retention and expiry mean nothing then.
pub const CLOCK: &str = "engine.clock";

/// Id of the refusal to measure on fewer rows or people than the steward asks for: the counts of an evaluation leave with
/// updates of other data, so its own terms are asked before a row is read.
pub const MINIMUM: &str = "engine.minimum";

/// Everything a decision found out.
pub(super) struct Outcome {
    pub allowed: bool,
    pub policies: BTreeSet<String>,
    pub errors: Vec<String>,
    pub epoch: u64,
    pub watch: (PathBuf, u64),
    pub rows: Option<Decided>,
}

/// A permit and the reasons why it does not cover the other rows.
#[derive(Debug)]
pub struct Authorized {
    /// The permit.
    pub permit: Permit,
    /// Policy id to rows it denied. A row that several policies deny counts for each.
    pub denied: BTreeMap<String, u64>,
}

/// A decision without effect: no permit, no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether [`Engine::authorize`] would give a permit.
    pub allowed: bool,
    /// Ids of the deciding policies.
    pub policies: Vec<String>,
    /// What to change; empty when allowed.
    pub advice: String,
    /// Policies that could not be evaluated.
    pub errors: Vec<String>,
    /// Rows the permit would open.
    pub rows: u64,
    /// Distinct subjects among them.
    pub subjects: u64,
    /// Policy id to rows it denied.
    pub denied: BTreeMap<String, u64>,
    /// State of the consent ledger.
    pub ledger_epoch: u64,
}
