//! The release gates one by one: what each looks at and what it says.

use super::asked::{Asked, evaluated, trained};
use super::{GateLimits, Proposal, TensorSpec};
use crate::error::GateResult;
use crate::permit::Action;

/// All gates in order. Each runs whatever the others say; what is asked of a data set is asked of each part's.
pub(super) fn run_gates(asked: &Asked<'_>, proposal: &Proposal) -> Vec<GateResult> {
    vec![
        contract(asked, proposal),
        finite(proposal),
        norm(proposal, asked.limits),
        rows(asked),
        budget(asked),
        metrics(asked, proposal),
        counts(asked),
        weight(asked, proposal),
        secure_aggregation(asked, proposal),
    ]
}

fn result(
    name: &'static str,
    passed: bool,
    observed: impl Into<String>,
    limit: impl Into<String>,
) -> GateResult {
    GateResult {
        name,
        passed,
        observed: observed.into(),
        limit: limit.into(),
    }
}

fn contract(asked: &Asked<'_>, proposal: &Proposal) -> GateResult {
    let limits = asked.limits;
    let length = |tensors: &[TensorSpec]| {
        let size = |t: &TensorSpec| t.shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d));
        tensors
            .iter()
            .try_fold(0_u64, |n, t| n.checked_add(size(t)?))
    };
    let values = proposal.update.len() as u64;
    let expected = length(&limits.contract);
    let differs = proposal
        .tensors
        .iter()
        .zip(&limits.contract)
        .position(|(a, b)| a != b);
    // An evaluation has counts to tell and nothing else; training without values would be one in disguise.
    let right_kind = trained(asked.parts).is_none() == (values == 0 && proposal.tensors.is_empty());
    let passed = proposal.tensors == limits.contract && expected == Some(values) && right_kind;
    let difference = differs.map_or_else(String::new, |at| format!(", tensor {at} differs"));
    let expected = expected.map_or_else(|| "too many".to_owned(), |n| n.to_string());
    result(
        "contract",
        passed,
        format!(
            "{} tensors, {values} values{difference}",
            proposal.tensors.len()
        ),
        format!("{} tensors, {expected} values", limits.contract.len()),
    )
}

fn finite(proposal: &Proposal) -> GateResult {
    let bad = proposal.update.iter().filter(|v| !v.is_finite()).count();
    result(
        "finite",
        bad == 0,
        format!("{bad} values are not finite"),
        "0",
    )
}

/// Recomputed from the values in f64; what the trainer claims is not asked.
fn norm(proposal: &Proposal, limits: &GateLimits) -> GateResult {
    let norm = proposal
        .update
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt();
    // A NaN compares false, so it fails. The slack is for the rounding of the clipped values to f32.
    let passed = norm <= limits.max_norm * (1.0 + 1e-6);
    result(
        "norm",
        passed,
        format!("{norm:.6}"),
        format!("{:.6}", limits.max_norm),
    )
}

fn rows(asked: &Asked<'_>) -> GateResult {
    let mut passed = true;
    let (mut observed, mut limit) = (Vec::new(), Vec::new());
    for part in asked.parts {
        let (rows, subjects) = (part.permit.row_count(), part.permit.subjects());
        let fewest = part.facts.min_rows.max(asked.min_rows(part));
        passed &= rows >= fewest && subjects >= part.facts.min_subjects;
        observed.push(format!("{rows} rows of {subjects} subjects"));
        limit.push(format!(
            "at least {fewest} rows of {} subjects",
            part.facts.min_subjects
        ));
    }
    result("rows", passed, observed.join(", "), limit.join(", "))
}

/// Noise without a charge, and a charge without noise, are both faults. Whether privacy may be off is the policies'
/// question.
fn budget(asked: &Asked<'_>) -> GateResult {
    let mut passed = true;
    let (mut observed, mut limit) = (Vec::new(), Vec::new());
    for (part, protection) in asked.parts.iter().zip(asked.protections) {
        let (spent, most) = (part.epsilon_micro_total, part.facts.budget_micro_epsilon);
        let reserved = protection.reservation.is_some();
        passed &= match protection.dp {
            "off" => spent == 0,
            // A mechanism that is on has spent something: 0 is an accountant that overflowed.
            _ => reserved && spent > 0 && spent <= most,
        };
        let word = if reserved { "reserved" } else { "not reserved" };
        observed.push(format!("{spent} micro-epsilon, {word}"));
        limit.push(format!("{most} micro-epsilon, reserved"));
    }
    result("budget", passed, observed.join("; "), limit.join("; "))
}

fn metrics(asked: &Asked<'_>, proposal: &Proposal) -> GateResult {
    let limits = asked.limits;
    let others = proposal
        .metrics
        .keys()
        .filter(|name| !limits.metrics_allowed.contains(*name));
    // Names come from the researcher's code and could carry data: counted here, never copied.
    let others = others.count();
    // A number about rows needs a permit over those rows.
    let told = proposal.metrics.values().any(|value| *value != 0);
    let permitted = !told || evaluated(asked.parts).is_some();
    let without = if permitted {
        ""
    } else {
        "; metrics without a permit to evaluate"
    };
    result(
        "metrics",
        others == 0 && permitted,
        format!("{others} metrics are not on the allow-list{without}"),
        "0",
    )
}

/// Where the data set demands privacy, its counts leave only with the engine's noise.
fn counts(asked: &Asked<'_>) -> GateResult {
    let demanded = asked
        .parts
        .iter()
        .any(|part| part.permit.action() == Action::Evaluate && part.facts.require_dp);
    let word = |on: bool, off| if on { "noise" } else { off };
    let noised = asked.counts.is_some_and(|counts| counts.seed.is_none());
    result(
        "counts",
        noised || !demanded,
        word(noised, "no noise"),
        word(demanded, "noise or none"),
    )
}

/// A weight by rows tells how many there are, so data that demand privacy have one weight: 1.
fn weight(asked: &Asked<'_>, proposal: &Proposal) -> GateResult {
    let private = asked.parts.iter().any(|part| part.facts.require_dp);
    let most = if private { 1 } else { asked.limits.weight_max };
    let passed = (1..=most).contains(&proposal.weight);
    result(
        "weight",
        passed,
        proposal.weight.to_string(),
        format!("1 to {most}"),
    )
}

fn secure_aggregation(asked: &Asked<'_>, proposal: &Proposal) -> GateResult {
    let word = |on: bool| if on { "on" } else { "off" };
    let required = asked
        .parts
        .iter()
        .any(|part| part.facts.require_secure_aggregation);
    let passed = proposal.secure_aggregation || !required;
    let limit = if required { "on" } else { "on or off" };
    result(
        "secure_aggregation",
        passed,
        word(proposal.secure_aggregation),
        limit,
    )
}
