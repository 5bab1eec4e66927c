//! The owner's permit: for a vault without a policy bundle, whoever holds the key reads, and it is on record.

use std::time::Duration;

use aegis_audit::{Event, Log};
use serde_json::json;
use uuid::Uuid;

use crate::error::PolicyError;
use crate::permit::{Action, Authority, Grant, Permit, Scope};

/// How long an owner's permit lasts.
pub const OWNER_VALID_FOR: Duration = Duration::from_hours(7 * 24);

/// A permit for the whole object, after its audit record is durable.
///
/// The vault refuses it ([`Authority::Owner`]) once it has a bundle; ask [`crate::Engine::authorize`] then.
pub fn owner_permit(
    vault: Uuid,
    object: Uuid,
    action: Action,
    log: &Log,
) -> Result<Permit, PolicyError> {
    let id = Uuid::new_v4();
    let record = log.append(&json!({
        "event": Event::Authorize.name(),
        "decision": "allow",
        "authority": "owner",
        "action": action.name(),
        "vault": vault.to_string(),
        "object": object.to_string(),
        "permit": id.to_string(),
        "policies": ["owner"],
        "errors": [],
    }))?;
    Ok(Permit::issue(
        id,
        Grant {
            vault,
            object,
            authority: Authority::Owner,
            action,
            purpose: "owner".into(),
            run: String::new(),
            round: 0,
            node: String::new(),
            app_hash: String::new(),
            facts: [0; 32],
            scope: Scope::Whole,
            subjects: 0,
            subject_rows_max: 0,
            valid_for: OWNER_VALID_FOR,
            audit_seq: record.seq,
            ledger_epoch: 0,
            watch: None,
        },
    ))
}
