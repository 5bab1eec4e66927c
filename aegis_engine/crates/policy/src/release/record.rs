//! The audit record of a release.

use std::collections::BTreeSet;

use aegis_audit::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Proposal;
use super::asked::Asked;
use super::session::DpSession;
use crate::cedar::Verdict;
use crate::digest::hex;
use crate::engine::Engine;
use crate::error::GateResult;

/// Counts, names and answers; never a value of the update, nor its norm, nor a metric. The fields of the whole record are
/// those of the first part, as in records of releases of one permit.
pub(super) fn release_record(
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
            "blocks": c.blocks.iter()
                .map(|block| json!({"cap": block.cap, "names": block.names}))
                .collect::<Vec<_>>(),
            // What records said before there were blocks, for those who read both.
            "loss_cap_milli": c.cap("loss_milli"),
            "histograms": c.cap("confidence_0").is_some(),
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
        // How many there may be, a public number; how many came is nobody's business. 0: none of blocks.
        "blocks": spent.plan.blocks,
        "sensitivity": spent.plan.sensitivity().to_string(),
        "steps_reserved": spent.plan.steps,
        "steps": spent.drawn,
        "steps_noised": spent.noised,
        "coordinates": spent.plan.dim,
        "coordinates_noised": spent.coordinates,
        "reservation": shortened(session.reservation()),
    })
}

/// Text from the researcher's code, bounded before it goes into the log.
fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(256))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}
