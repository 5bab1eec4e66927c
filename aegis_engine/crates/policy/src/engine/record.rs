//! The audit record of a decision.

use aegis_audit::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Engine;
use super::outcome::Outcome;
use super::request::{Request, day, now_ms};
use crate::digest::hex;

impl Engine {
    /// The audit record of a decision, or of a fault that prevented it. No personal data: counts and hashes.
    pub(super) fn record(
        &self,
        request: &Request,
        outcome: Option<&Outcome>,
        permit: Option<Uuid>,
        errors: &[String],
    ) -> Value {
        let rows = outcome.and_then(|o| o.rows.as_ref());
        let today = request.today.unwrap_or_else(|| day(now_ms()));
        let mut body = json!({
            "event": Event::Authorize.name(),
            "decision": if permit.is_some() { "allow" } else { "deny" },
            "action": request.action.name(),
            "purpose": request.purpose,
            "run": request.run,
            "round": request.round,
            "node": request.node,
            "vault": request.vault.to_string(),
            "object": request.object.to_string(),
            "columns": request.columns,
            "app_hash": request.app_hash,
            "day": today,
            "bundle": hex(&self.bundle.hash()),
            "schema": hex(&self.bundle.schema_hash()),
            "policies": outcome.map(|o| &o.policies),
            "errors": errors,
            "ledger_epoch": outcome.map(|o| o.epoch),
            "rows_allowed": rows.filter(|_| permit.is_some()).map_or(0, |d| d.allowed.len()),
            "rows_candidates": rows.map(|d| d.candidates),
            "rows_denied": rows.map(|d| &d.denied),
        });
        if let (Some(permit), Some(rows)) = (permit, rows) {
            body["permit"] = permit.to_string().into();
            body["row_set"] = hex(&rows.allowed.hash()).into();
            body["subjects"] = rows.subjects.into();
            body["rows_per_subject_max"] = rows.subject_rows_max.into();
        }
        body
    }
}
