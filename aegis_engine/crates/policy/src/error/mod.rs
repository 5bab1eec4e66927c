//! Errors and what they carry may be put here; they import nothing of the crate. Every variant of [`PolicyError`] means: no permit, no
//! release.

mod consent;
mod gate;
mod permit;

use aegis_audit::AuditError;

pub use consent::{ConsentError, Flaw, LONGEST};
pub use gate::GateResult;
pub use permit::PermitError;

/// Why there is no permit or no release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The policies said no, or could not be evaluated to the end.
    #[error("denied by {}: {what}; {advice}", policies.join(", "))]
    Denied {
        /// Ids of the deciding policies.
        policies: Vec<String>,
        /// Their advice: what to change.
        advice: String,
        /// What was asked for.
        what: String,
    },
    /// At least one release gate failed.
    #[error("release refused by {}; the node's log has the numbers", names(failed))]
    GateFailed {
        /// The gates that failed.
        failed: Vec<GateResult>,
        /// All gates in order, with what they saw.
        gates: Vec<GateResult>,
    },
    /// A bundle that does not parse, does not validate, or does not fit the engine.
    #[error("policy bundle {bundle} is invalid: {reason}; correct it and load it again")]
    InvalidBundle {
        /// Name of the bundle.
        bundle: String,
        /// File or policy, and what is wrong with it.
        reason: String,
    },
    /// The bulk decision and a single decision differ.
    #[error(
        "bulk and single decision differ for row {row} of object {object}: all rows are denied; report this as a bug"
    )]
    Divergence {
        /// The dataset.
        object: uuid::Uuid,
        /// The first row that differs.
        row: u32,
    },
    /// The decision could not be written down, so it does not count.
    #[error("the audit log took no record, so nothing is allowed: {0}")]
    Audit(#[from] AuditError),
    /// The consent ledger cannot be read, so nobody's consent is known.
    #[error("{}", of_consent(.0))]
    Consent(#[from] ConsentError),
    /// The permit does not cover the step.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// The register of who spends whose budget is not what the vault wrote.
    #[error(
        "the register of lineages cannot be used ({reason}), so nobody's budget is known and nothing is stored or spent; restore the folder lineage/ from its newest copy"
    )]
    Lineage {
        /// What is wrong with it.
        reason: String,
    },
    /// A request that no policy can decide on.
    #[error("bad request: {reason}")]
    BadRequest {
        /// What is wrong and what to send instead.
        reason: String,
    },
}

impl PolicyError {
    /// Stable code for programs and manuals.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "AEG-P001",
            Self::GateFailed { .. } => "AEG-P002",
            Self::InvalidBundle { .. } => "AEG-P003",
            Self::Divergence { .. } => "AEG-P004",
            Self::Audit(_) => "AEG-P005",
            Self::Consent(
                ConsentError::BadPurpose { .. }
                | ConsentError::BadSubject { .. }
                | ConsentError::BadName { .. },
            ) => "AEG-P013",
            Self::Consent(
                ConsentError::UnknownSubject { .. } | ConsentError::UnknownPurpose { .. },
            ) => "AEG-P014",
            Self::Consent(ConsentError::RolledBack { .. }) => "AEG-P015",
            Self::Consent(ConsentError::Erased | ConsentError::ErasedRows { .. }) => "AEG-P016",
            Self::Consent(_) => "AEG-P006",
            Self::Permit(PermitError::Expired { .. }) => "AEG-P007",
            Self::Permit(PermitError::Revoked { .. }) => "AEG-P008",
            Self::Permit(PermitError::Scope { .. }) => "AEG-P009",
            Self::BadRequest { .. } => "AEG-P010",
            Self::Lineage { .. } => "AEG-P018",
        }
    }

    /// What the node's own log may say: with the numbers seen, which the text leaves out.
    pub fn detail(&self) -> String {
        match self {
            Self::GateFailed { failed, .. } => format!("release refused by {}", numbers(failed)),
            other => other.to_string(),
        }
    }

    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::BadRequest {
            reason: reason.into(),
        }
    }
}

/// What somebody asked of the ledger wrongly is theirs to correct; the rest is about the ledger.
fn of_consent(error: &ConsentError) -> String {
    match error {
        ConsentError::Log(_)
        | ConsentError::Unreadable { .. }
        | ConsentError::Busy
        | ConsentError::Io { .. } => {
            format!("the consent ledger cannot be used, so nothing is allowed: {error}")
        }
        _ => error.to_string(),
    }
}

fn names(failed: &[GateResult]) -> String {
    let list: Vec<String> = failed.iter().map(|g| format!("gate {}", g.name)).collect();
    list.join(", ")
}

fn numbers(failed: &[GateResult]) -> String {
    let list: Vec<String> = failed
        .iter()
        .map(|g| {
            format!(
                "gate {} (observed {}, limit {})",
                g.name, g.observed, g.limit
            )
        })
        .collect();
    list.join(", ")
}
