//! The way out: gates over an update, one policy decision, one durable record, one [`Release`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aegis_audit::{Event, Log};
use cedar_policy::Context;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cedar::{Asker, Verdict, context, long, text, texts, truth};
use crate::checks::run_gates;
use crate::counts::CountsNoise;
use crate::engine::Engine;
use crate::permit::{Action, Authority, Permit};
use crate::session::DpSession;
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

/// What the engine itself saw of one part's privacy: counters, never a claim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Protection {
    /// `off`, `secure`, or `insecure_test` (a seeded generator).
    pub dp: &'static str,
    pub reservation: Option<String>,
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
    /// Runs all gates, asks the policies for each part, writes the answer down, and releases the update.
    ///
    /// The parts are a permit to train, a permit to evaluate, or one of each: a release names every permit it used, and
    /// each data set is asked under its own terms (`release_update`, `release_counts`). Permits must be of this engine's
    /// bundle, in force, and must not have released anything yet; facts must be those of the decisions. Values need a permit
    /// to train, metrics other than zero a permit to evaluate.
    ///
    /// Whether noise was added is read from `session` and made by `counts`, never taken from the caller: without a session
    /// of this permit that noised every coordinate of every drawn step once, an update counts as unprotected.
    ///
    /// # Errors
    /// [`PolicyError::GateFailed`] with all gates when one failed; [`PolicyError::Denied`] when only the policies
    /// object. Either way the record is in the log and the update goes nowhere.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a session ends with its release"
    )]
    pub fn gate(
        &self,
        parts: &[Part<'_>],
        mut proposal: Proposal,
        session: Option<DpSession>,
        counts: Option<CountsNoise>,
        limits: &GateLimits,
        log: &Log,
    ) -> Result<Release, PolicyError> {
        let Some(first) = parts.first() else {
            return Err(PolicyError::bad(
                "a release names the permits it used: there is none",
            ));
        };
        let protections: Vec<Protection> = parts
            .iter()
            .map(|part| protection(part, &proposal, session.as_ref(), counts.as_ref()))
            .collect();
        let asked = Asked {
            parts,
            protections: &protections,
            session: session.as_ref(),
            counts: counts.as_ref(),
            limits,
        };
        let ran = self.premises(&asked, &proposal).and_then(|()| {
            let gates = run_gates(&asked, &proposal);
            let verdicts = (0..parts.len())
                .map(|at| self.ask_release(&asked, at, &proposal, &gates))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((gates, verdicts))
        });
        let (gates, verdicts) = match ran {
            Ok(ran) => ran,
            Err(fault) => {
                // As in `authorize`: the fault is what the caller must see, even when its record fails.
                let _ = log.append(&release_record(
                    self,
                    &asked,
                    &proposal,
                    &[],
                    &[],
                    None,
                    &[fault.to_string()],
                ));
                return Err(fault);
            }
        };
        let errors: Vec<String> = verdicts.iter().flat_map(|v| v.errors.clone()).collect();
        let passed = gates.iter().all(|g| g.passed) && verdicts.iter().all(|v| v.allow);
        if passed {
            // Taken before the record: of two threads with one permit, one is told no.
            for part in parts {
                if !part.permit.take_release() {
                    return Err(already_released(part.permit));
                }
            }
            if let Some(part) = evaluated(parts)
                && let Some(counts) = &counts
            {
                counts.apply(&mut proposal.metrics, part.permit.row_count())?;
            }
        }
        let id = passed.then(Uuid::new_v4);
        let body = release_record(self, &asked, &proposal, &verdicts, &gates, id, &errors);
        let record = log.append(&body)?;
        if let Some(id) = id {
            return Ok(Release {
                id,
                permit: first.permit.id(),
                rows: first.permit.row_count(),
                audit_seq: record.seq,
                gates,
                proposal,
            });
        }
        let failed: Vec<GateResult> = gates.iter().filter(|g| !g.passed).cloned().collect();
        if failed.is_empty() {
            let denied = parts.iter().zip(verdicts).find(|(_, v)| !v.allow);
            let (part, policies) =
                denied.map_or((first, BTreeSet::new()), |(p, v)| (p, v.policies));
            let what = format!("release of what came of object {}", part.permit.object());
            return Err(self.denied(policies, what));
        }
        Err(PolicyError::GateFailed { failed, gates })
    }

    /// A release that tells nothing: no value, zero for each of `metrics`, no row used and so no permit named. A node without
    /// held-out rows takes part in an evaluation with it. It is on record like any other.
    ///
    /// # Errors
    /// The record did not reach the disk.
    pub fn release_nothing(
        &self,
        metrics: impl IntoIterator<Item = String>,
        secure_aggregation: bool,
        log: &Log,
    ) -> Result<Release, PolicyError> {
        let proposal = Proposal {
            update: Vec::new(),
            tensors: Vec::new(),
            metrics: metrics.into_iter().map(|name| (name, 0)).collect(),
            secure_aggregation,
            weight: 1,
        };
        let id = Uuid::new_v4();
        let record = log.append(&json!({
            "event": Event::Release.name(),
            "decision": "allow",
            "release": id.to_string(),
            "bundle": hex(&self.bundle().hash()),
            "parts": [],
            "rows": 0,
            "subjects": 0,
            "secure_aggregation": secure_aggregation,
        }))?;
        Ok(Release {
            id,
            permit: Uuid::nil(),
            rows: 0,
            audit_seq: record.seq,
            gates: Vec::new(),
            proposal,
        })
    }

    fn premises(&self, asked: &Asked<'_>, proposal: &Proposal) -> Result<(), PolicyError> {
        let (parts, limits) = (asked.parts, asked.limits);
        let actions: Vec<Action> = parts.iter().map(|p| p.permit.action()).collect();
        if !matches!(
            actions[..],
            [Action::Train | Action::Evaluate] | [Action::Train, Action::Evaluate]
        ) {
            return Err(PolicyError::bad(
                "a permit to train releases an update, and one to evaluate releases counts: name one of each at most, \
                 the one to train first",
            ));
        }
        for part in parts {
            if part.permit.authority() != Authority::Bundle(self.bundle().hash()) {
                return Err(PolicyError::bad(
                    "this permit was not issued under this engine's bundle; updates are released only under the policies \
                     that opened the data: govern the vault and authorize",
                ));
            }
            if part.permit.facts() != part.facts.hash() {
                return Err(PolicyError::bad(
                    "the dataset's facts are not those of the permit's decision: authorize again",
                ));
            }
            if part
                .reservation
                .as_ref()
                .is_some_and(|r| r.is_empty() || r.len() > 256)
            {
                return Err(PolicyError::bad("a reservation id has 1 to 256 bytes"));
            }
        }
        if !(limits.max_norm.is_finite() && limits.max_norm > 0.0) {
            return Err(PolicyError::bad("max_norm must be a positive number"));
        }
        if let Some(session) = asked.session
            && trained(parts).is_none_or(|part| part.permit.id() != session.permit())
        {
            return Err(PolicyError::bad(
                "the session's noise was drawn for another permit: one session, one permit, one release",
            ));
        }
        if let Some(counts) = asked.counts {
            counts.check()?;
            if evaluated(parts).is_none() {
                return Err(PolicyError::bad(
                    "there is noise for counts, but no permit to evaluate",
                ));
            }
            if !counts.covers(&proposal.metrics) {
                return Err(PolicyError::bad(
                    "a metric is no count of an evaluation, so its noise is not known",
                ));
            }
        }
        for part in parts {
            part.permit.in_force()?;
            if part.permit.released() {
                return Err(already_released(part.permit));
            }
        }
        Ok(())
    }

    fn ask_release(
        &self,
        asked: &Asked<'_>,
        at: usize,
        proposal: &Proposal,
        gates: &[GateResult],
    ) -> Result<Verdict, PolicyError> {
        let (part, protection) = (&asked.parts[at], &asked.protections[at]);
        let permit = part.permit;
        let measured = Measured {
            dp: protection.dp.to_owned(),
            epsilon_micro_total: part.epsilon_micro_total,
            failed: gates
                .iter()
                .filter(|g| !g.passed)
                .map(|g| g.name.to_owned())
                .collect(),
            operator_min_rows: asked.min_rows(part),
            purpose: permit.purpose().to_owned(),
            reserved: protection.reservation.is_some(),
            round: permit.round(),
            rows: permit.row_count(),
            secure_aggregation: proposal.secure_aggregation,
            subjects: permit.subjects(),
            weight: proposal.weight,
        };
        let object = permit.object().to_string();
        let policies = Asker::new(
            self.bundle(),
            permit.run(),
            permit.node(),
            permit.app_hash(),
            &object,
            part.facts,
        )?;
        let action = match permit.action() {
            Action::Evaluate => "release_counts",
            _ => "release_update",
        };
        policies.update(action, &permit.id().to_string(), &measured.context()?)
    }
}

/// Everything a release is judged by, beside the proposal.
pub(crate) struct Asked<'a> {
    pub parts: &'a [Part<'a>],
    pub protections: &'a [Protection],
    pub session: Option<&'a DpSession>,
    pub counts: Option<&'a CountsNoise>,
    pub limits: &'a GateLimits,
}

impl Asked<'_> {
    /// The operator's own floor is for what is trained on.
    pub(crate) fn min_rows(&self, part: &Part<'_>) -> u64 {
        match part.permit.action() {
            Action::Train => self.limits.min_rows,
            _ => 0,
        }
    }
}

/// The part that was trained on.
pub(crate) fn trained<'a>(parts: &'a [Part<'a>]) -> Option<&'a Part<'a>> {
    parts.iter().find(|p| p.permit.action() == Action::Train)
}

/// The part that was evaluated on.
pub(crate) fn evaluated<'a>(parts: &'a [Part<'a>]) -> Option<&'a Part<'a>> {
    parts.iter().find(|p| p.permit.action() == Action::Evaluate)
}

/// What the engine's own counters say. Coordinates that moved without noise make the whole update unprotected.
fn protection(
    part: &Part<'_>,
    proposal: &Proposal,
    session: Option<&DpSession>,
    counts: Option<&CountsNoise>,
) -> Protection {
    let off = Protection {
        dp: "off",
        reservation: None,
    };
    if part.permit.action() == Action::Evaluate {
        return counts.map_or(off, |counts| Protection {
            dp: if counts.seed.is_some() {
                "insecure_test"
            } else {
                "secure"
            },
            reservation: part.reservation.clone(),
        });
    }
    let Some(session) = session.filter(|s| s.permit() == part.permit.id()) else {
        return off;
    };
    let spent = session.spent();
    let moved = proposal.update.iter().filter(|v| **v != 0.0).count() as u64;
    if !spent.whole() || moved > spent.plan.dim {
        return off;
    }
    Protection {
        dp: if spent.insecure {
            "insecure_test"
        } else {
            "secure"
        },
        reservation: Some(session.reservation().to_owned()),
    }
}

/// Counts, names and answers; never a value of the update, nor its norm, nor a metric. The fields of the whole record are
/// those of the first part, as in records of releases of one permit.
fn release_record(
    engine: &Engine,
    asked: &Asked<'_>,
    proposal: &Proposal,
    verdicts: &[Verdict],
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
    let parts: Vec<Value> = asked
        .parts
        .iter()
        .zip(asked.protections)
        .enumerate()
        .map(|(at, (part, protection))| {
            json!({
                "permit": part.permit.id().to_string(),
                "action": part.permit.action().name(),
                "object": part.permit.object().to_string(),
                "rows": part.permit.row_count(),
                "subjects": part.permit.subjects(),
                "dp": protection.dp,
                "reservation": protection.reservation.as_deref().map(shortened),
                "epsilon_micro_total": part.epsilon_micro_total,
                "policies": verdicts.get(at).map(|v| &v.policies),
            })
        })
        .collect();
    let policies: Option<BTreeSet<&String>> =
        (!verdicts.is_empty()).then(|| verdicts.iter().flat_map(|v| &v.policies).collect());
    let (part, protection) = (&asked.parts[0], &asked.protections[0]);
    let permit = part.permit;
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
        "bundle": hex(&engine.bundle().hash()),
        "schema": hex(&engine.bundle().schema_hash()),
        "policies": policies,
        "errors": errors,
        "gates": gates,
        "parts": parts,
        "mechanism": asked.session.map(mechanism),
        "counts": asked.counts.map(|c| json!({
            // Audit records hold no floats; this is the shortest text that reads back as the same number.
            "noise_multiplier": c.z.to_string(),
            "loss_cap_milli": c.loss_cap_milli,
            "histograms": c.histograms,
        })),
        "coordinates": proposal.update.len(),
        "rows": permit.row_count(),
        "subjects": permit.subjects(),
        "weight": proposal.weight,
        "dp": protection.dp,
        "reservation": protection.reservation.as_deref().map(shortened),
        "epsilon_micro_total": part.epsilon_micro_total,
        "secure_aggregation": proposal.secure_aggregation,
    })
}

/// What the engine counted.
fn mechanism(session: &DpSession) -> Value {
    let spent = session.spent();
    json!({
        "noise_multiplier": spent.plan.sigma.to_string(),
        "clip": spent.plan.clip.to_string(),
        "sample_rate": spent.plan.rate.to_string(),
        "expected_batch": spent.plan.expected_batch.to_string(),
        "steps_reserved": spent.plan.steps,
        "steps": spent.drawn,
        "steps_noised": spent.noised,
        "coordinates": spent.plan.dim,
        "coordinates_noised": spent.coordinates,
        "reservation": shortened(session.reservation()),
    })
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
