//! Steps of the way out may be put here: gates over an update, one policy decision, one durable record, one [`Release`].

mod asked;
pub mod counts;
mod decide;
mod gates;
mod record;
pub mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use uuid::Uuid;

pub use crate::error::GateResult;
use crate::permit::Permit;
use crate::rows::DatasetFacts;

/// Name and shape of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the model.
    pub name: String,
    /// Its dimensions; none for a scalar.
    pub shape: Vec<u64>,
}

/// An update that asks to leave, with what is claimed about it.
#[derive(Clone)]
pub struct Proposal {
    /// All values, flat, in the order of the contract.
    pub update: Vec<f32>,
    /// The tensors they are.
    pub tensors: Vec<TensorSpec>,
    /// Metrics, encoded as integers.
    pub metrics: BTreeMap<String, i64>,
    /// Whether the update goes into secure aggregation.
    pub secure_aggregation: bool,
    /// Weight in the average.
    pub weight: u64,
}

impl fmt::Debug for Proposal {
    // The values and metrics are what the gates keep in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Proposal({} values, {} metrics)",
            self.update.len(),
            self.metrics.len()
        )
    }
}

/// A permit whose rows a release tells something of, with the facts of its decision and what its ledger says.
#[derive(Debug)]
pub struct Part<'a> {
    /// To train, or to evaluate.
    pub permit: &'a Permit,
    /// Facts of its data set.
    pub facts: &'a DatasetFacts,
    /// The reservation of counts; a training's is in its session.
    pub reservation: Option<String>,
    /// Privacy loss of that data set's ledger with this round, in millionths of epsilon, rounded up; 0 when off.
    pub epsilon_micro_total: u64,
}

/// What the node's operator and the run's contract allow.
#[derive(Debug, Clone, PartialEq)]
pub struct GateLimits {
    /// The tensors expected, in order.
    pub contract: Vec<TensorSpec>,
    /// Largest L2 norm of the update.
    pub max_norm: f64,
    /// Metrics that may leave.
    pub metrics_allowed: BTreeSet<String>,
    /// Largest weight.
    pub weight_max: u64,
    /// Fewest rows by the operator; the larger of this and the dataset's counts.
    pub min_rows: u64,
}

/// An update that passed. Made only by [`Engine::gate`], after its audit record is durable; cannot be copied.
pub struct Release {
    id: Uuid,
    permit: Uuid,
    rows: u64,
    audit_seq: u64,
    gates: Vec<GateResult>,
    proposal: Proposal,
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Release")
            .field("id", &self.id)
            .field("proposal", &self.proposal)
            .finish_non_exhaustive()
    }
}

impl Release {
    /// Random id, the same as in the audit record.
    pub fn id(&self) -> Uuid {
        self.id
    }
    /// The first permit it used: the one that was trained on, where there was one.
    pub fn permit(&self) -> Uuid {
        self.permit
    }
    /// Sequence number of the audit record.
    pub fn audit_seq(&self) -> u64 {
        self.audit_seq
    }
    /// All gates, in order.
    pub fn gates(&self) -> &[GateResult] {
        &self.gates
    }
    /// The values.
    pub fn update(&self) -> &[f32] {
        &self.proposal.update
    }
    /// The metrics.
    pub fn metrics(&self) -> &BTreeMap<String, i64> {
        &self.proposal.metrics
    }
    /// Rows that permit opened.
    pub fn rows(&self) -> u64 {
        self.rows
    }
    /// Weight in the average.
    pub fn weight(&self) -> u64 {
        self.proposal.weight
    }
    /// Whether it may leave only masked.
    pub fn secure_aggregation(&self) -> bool {
        self.proposal.secure_aggregation
    }
}
