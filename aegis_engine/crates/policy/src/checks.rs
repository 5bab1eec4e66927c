//! The release gates one by one: what each looks at and what it says.

use crate::DatasetFacts;
use crate::gate::{GateLimits, GateResult, Proposal, TensorSpec};
use crate::permit::{Action, Permit};

/// All gates in order. Each runs whatever the others say.
pub(crate) fn run_gates(
    permit: &Permit,
    proposal: &Proposal,
    facts: &DatasetFacts,
    limits: &GateLimits,
) -> Vec<GateResult> {
    vec![
        contract(permit, proposal, limits),
        finite(proposal),
        norm(proposal, limits),
        rows(permit, proposal, facts, limits),
        budget(proposal, facts),
        metrics(proposal, limits),
        weight(proposal, limits),
        secure_aggregation(proposal, facts),
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

fn contract(permit: &Permit, proposal: &Proposal, limits: &GateLimits) -> GateResult {
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
    let right_kind =
        (permit.action() == Action::Evaluate) == (values == 0 && proposal.tensors.is_empty());
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

fn rows(
    permit: &Permit,
    proposal: &Proposal,
    facts: &DatasetFacts,
    limits: &GateLimits,
) -> GateResult {
    let fewest = facts.min_rows.max(limits.min_rows);
    let passed = proposal.rows >= fewest
        && proposal.subjects >= facts.min_subjects
        && proposal.rows <= permit.row_count()
        && proposal.subjects <= permit.subjects();
    result(
        "rows",
        passed,
        format!("{} rows of {} subjects", proposal.rows, proposal.subjects),
        format!(
            "{fewest} to {} rows of {} to {} subjects",
            permit.row_count(),
            facts.min_subjects,
            permit.subjects()
        ),
    )
}

fn budget(proposal: &Proposal, facts: &DatasetFacts) -> GateResult {
    let (spent, limit) = (proposal.epsilon_micro_total, facts.budget_micro_epsilon);
    // Whether privacy may be off is the policies' question.
    let passed = match proposal.dp.as_str() {
        "off" => spent == 0,
        _ => proposal.reservation.is_some() && spent <= limit,
    };
    let reserved = if proposal.reservation.is_some() {
        "reserved"
    } else {
        "not reserved"
    };
    result(
        "budget",
        passed,
        format!("{spent} micro-epsilon, {reserved}"),
        format!("{limit} micro-epsilon, reserved"),
    )
}

fn metrics(proposal: &Proposal, limits: &GateLimits) -> GateResult {
    let others = proposal
        .metrics
        .keys()
        .filter(|name| !limits.metrics_allowed.contains(*name));
    // Names come from the researcher's code and could carry data: counted here, never copied.
    let others = others.count();
    result(
        "metrics",
        others == 0,
        format!("{others} metrics are not on the allow-list"),
        "0",
    )
}

fn weight(proposal: &Proposal, limits: &GateLimits) -> GateResult {
    let passed = (1..=limits.weight_max).contains(&proposal.weight);
    result(
        "weight",
        passed,
        proposal.weight.to_string(),
        format!("1 to {}", limits.weight_max),
    )
}

fn secure_aggregation(proposal: &Proposal, facts: &DatasetFacts) -> GateResult {
    let word = |on: bool| if on { "on" } else { "off" };
    let passed = proposal.secure_aggregation || !facts.require_secure_aggregation;
    let limit = if facts.require_secure_aggregation {
        "on"
    } else {
        "on or off"
    };
    result(
        "secure_aggregation",
        passed,
        word(proposal.secure_aggregation),
        limit,
    )
}
