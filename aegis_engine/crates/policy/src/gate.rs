//! The way out: gates over an update, one policy decision, one durable record, one [`Release`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aegis_audit::{Event, Log};
use cedar_policy::Context;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cedar::{Asker, Verdict, context, long, text, texts, truth};
use crate::checks::run_gates;
use crate::engine::Engine;
use crate::permit::{Action, Authority, Permit};
use crate::{DatasetFacts, PolicyError, hex};

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
    /// Rows trained on.
    pub rows: u64,
    /// Distinct subjects trained on.
    pub subjects: u64,
    /// `off`, `secure`, or `insecure_test` (a seeded generator).
    pub dp: String,
    /// Id of the reservation in the privacy ledger.
    pub reservation: Option<String>,
    /// Privacy loss including this round, in millionths of epsilon, rounded up; 0 when off.
    pub epsilon_micro_total: u64,
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

/// What one gate saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateResult {
    /// Name of the gate.
    pub name: &'static str,
    /// Whether the update passed.
    pub passed: bool,
    /// What it found.
    pub observed: String,
    /// What it allows.
    pub limit: String,
}

/// An update that passed. Made only by [`Engine::gate`], after its audit record is durable; cannot be copied.
pub struct Release {
    id: Uuid,
    permit: Uuid,
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
    /// The permit whose rows were trained on.
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
    /// Rows trained on.
    pub fn rows(&self) -> u64 {
        self.proposal.rows
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

/// The facts of one update as policies see them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub dp: String,
    pub epsilon_micro_total: u64,
    pub failed: Vec<String>,
    pub operator_min_rows: u64,
    pub purpose: String,
    pub reserved: bool,
    pub round: u64,
    pub rows: u64,
    pub secure_aggregation: bool,
    pub subjects: u64,
    pub weight: u64,
}

impl Measured {
    pub(crate) fn context(&self) -> Result<Context, PolicyError> {
        context([
            ("dp", text(&self.dp)),
            (
                "epsilon_micro_total",
                long("epsilon_micro_total", self.epsilon_micro_total)?,
            ),
            ("failed", texts(&self.failed)),
            (
                "operator_min_rows",
                long("min_rows", self.operator_min_rows)?,
            ),
            ("purpose", text(&self.purpose)),
            ("reserved", truth(self.reserved)),
            ("round", long("round", self.round)?),
            ("rows", long("rows", self.rows)?),
            ("secure_aggregation", truth(self.secure_aggregation)),
            ("subjects", long("subjects", self.subjects)?),
            ("weight", long("weight", self.weight)?),
        ])
    }
}

impl Engine {
    /// Runs all gates, asks the policies, writes the answer down, and releases the update.
    ///
    /// The permit must be of this engine's bundle, in force, and must not have released anything yet; `facts` must be
    /// those of its decision. A permit to train releases an update; a permit to evaluate releases metrics alone: the
    /// contract gate refuses any tensor or value beside them, and the policies decide on `release_counts`.
    ///
    /// # Errors
    /// [`PolicyError::GateFailed`] with all gates when one failed; [`PolicyError::Denied`] when only the policies
    /// object. Either way the record is in the log and the update goes nowhere.
    pub fn gate(
        &self,
        permit: &Permit,
        proposal: Proposal,
        facts: &DatasetFacts,
        limits: &GateLimits,
        log: &Log,
    ) -> Result<Release, PolicyError> {
        let ran = self
            .premises(permit, &proposal, facts, limits)
            .and_then(|()| {
                let gates = run_gates(permit, &proposal, facts, limits);
                let verdict = self.ask_release(permit, &proposal, facts, limits, &gates)?;
                Ok((gates, verdict))
            });
        let (gates, verdict) = match ran {
            Ok(ran) => ran,
            Err(fault) => {
                // As in `authorize`: the fault is what the caller must see, even when its record fails.
                let _ = log.append(&self.release_record(
                    permit,
                    &proposal,
                    None,
                    &[],
                    None,
                    &[fault.to_string()],
                ));
                return Err(fault);
            }
        };
        let passed = gates.iter().all(|g| g.passed) && verdict.allow;
        // Taken before the record: of two threads with one permit, one is told no.
        if passed && !permit.take_release() {
            return Err(already_released(permit));
        }
        let id = passed.then(Uuid::new_v4);
        let body = self.release_record(
            permit,
            &proposal,
            Some(&verdict),
            &gates,
            id,
            &verdict.errors,
        );
        let record = log.append(&body)?;
        if let Some(id) = id {
            return Ok(Release {
                id,
                permit: permit.id(),
                audit_seq: record.seq,
                gates,
                proposal,
            });
        }
        let failed: Vec<GateResult> = gates.iter().filter(|g| !g.passed).cloned().collect();
        if failed.is_empty() {
            let what = format!("release of an update trained on object {}", permit.object());
            return Err(self.denied(verdict.policies, what));
        }
        Err(PolicyError::GateFailed { failed, gates })
    }

    fn premises(
        &self,
        permit: &Permit,
        proposal: &Proposal,
        facts: &DatasetFacts,
        limits: &GateLimits,
    ) -> Result<(), PolicyError> {
        if permit.authority() != Authority::Bundle(self.bundle().hash()) {
            return Err(PolicyError::bad(
                "this permit was not issued under this engine's bundle; updates are released only under the policies \
                 that opened the data: govern the vault and authorize",
            ));
        }
        if !matches!(permit.action(), Action::Train | Action::Evaluate) {
            return Err(PolicyError::bad(
                "only a permit to train releases an update, and one to evaluate releases counts: authorize with one of \
                 these actions",
            ));
        }
        if permit.facts() != facts.hash() {
            return Err(PolicyError::bad(
                "the dataset's facts are not those of the permit's decision: authorize again",
            ));
        }
        if !["off", "secure", "insecure_test"].contains(&proposal.dp.as_str()) {
            return Err(PolicyError::bad("dp must be off, secure or insecure_test"));
        }
        if !(limits.max_norm.is_finite() && limits.max_norm > 0.0) {
            return Err(PolicyError::bad("max_norm must be a positive number"));
        }
        if proposal
            .reservation
            .as_ref()
            .is_some_and(|r| r.is_empty() || r.len() > 256)
        {
            return Err(PolicyError::bad("a reservation id has 1 to 256 bytes"));
        }
        permit.in_force()?;
        if permit.released() {
            return Err(already_released(permit));
        }
        Ok(())
    }

    fn ask_release(
        &self,
        permit: &Permit,
        proposal: &Proposal,
        facts: &DatasetFacts,
        limits: &GateLimits,
        gates: &[GateResult],
    ) -> Result<Verdict, PolicyError> {
        let measured = Measured {
            dp: proposal.dp.clone(),
            epsilon_micro_total: proposal.epsilon_micro_total,
            failed: gates
                .iter()
                .filter(|g| !g.passed)
                .map(|g| g.name.to_owned())
                .collect(),
            operator_min_rows: limits.min_rows,
            purpose: permit.purpose().to_owned(),
            reserved: proposal.reservation.is_some(),
            round: permit.round(),
            rows: proposal.rows,
            secure_aggregation: proposal.secure_aggregation,
            subjects: proposal.subjects,
            weight: proposal.weight,
        };
        let object = permit.object().to_string();
        let asker = Asker::new(
            self.bundle(),
            permit.run(),
            permit.node(),
            permit.app_hash(),
            &object,
            facts,
        )?;
        let action = match permit.action() {
            Action::Evaluate => "release_counts",
            _ => "release_update",
        };
        asker.update(action, &permit.id().to_string(), &measured.context()?)
    }

    /// Counts, names and answers; never a value of the update, nor its norm.
    fn release_record(
        &self,
        permit: &Permit,
        proposal: &Proposal,
        verdict: Option<&Verdict>,
        gates: &[GateResult],
        release: Option<Uuid>,
        errors: &[String],
    ) -> Value {
        let gates: Vec<Value> = gates
            .iter()
            .map(|g| {
                let observed = (g.name != "norm").then_some(&g.observed);
                json!({"name": g.name, "passed": g.passed, "observed": observed, "limit": g.limit})
            })
            .collect();
        json!({
            "event": Event::Release.name(),
            "decision": if release.is_some() { "allow" } else { "deny" },
            "release": release.map(|id| id.to_string()),
            "permit": permit.id().to_string(),
            "purpose": permit.purpose(),
            "run": permit.run(),
            "round": permit.round(),
            "node": permit.node(),
            "app_hash": permit.app_hash(),
            "object": permit.object().to_string(),
            "bundle": hex(&self.bundle().hash()),
            "schema": hex(&self.bundle().schema_hash()),
            "policies": verdict.map(|v| &v.policies),
            "errors": errors,
            "gates": gates,
            "coordinates": proposal.update.len(),
            "rows": proposal.rows,
            "subjects": proposal.subjects,
            "weight": proposal.weight,
            "dp": shortened(&proposal.dp),
            "reservation": proposal.reservation.as_deref().map(shortened),
            "epsilon_micro_total": proposal.epsilon_micro_total,
            "secure_aggregation": proposal.secure_aggregation,
        })
    }
}

fn already_released(permit: &Permit) -> PolicyError {
    PolicyError::bad(format!(
        "permit {} has released an update already: authorize the next round",
        permit.id()
    ))
}

/// Text from the researcher's code, bounded before it goes into the log.
fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(256))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}
