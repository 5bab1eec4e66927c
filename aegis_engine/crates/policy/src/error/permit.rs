//! Why a permit does not open what was asked.

use uuid::Uuid;

/// Why a permit does not open what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// Time is up.
    #[error("permit {permit} has expired; ask the compliance engine for a new one")]
    Expired {
        /// The permit's id.
        permit: Uuid,
    },
    /// The consent ledger changed after the decision.
    #[error(
        "permit {permit} is revoked: the consent ledger changed after it was issued; authorize again and the new decision counts"
    )]
    Revoked {
        /// The permit's id.
        permit: Uuid,
    },
    /// Something outside the decision was asked for.
    #[error(
        "permit {permit} does not cover {what}; ask for it in the request, so that policy decides on it"
    )]
    Scope {
        /// The permit's id.
        permit: Uuid,
        /// What was asked for; no data, no person.
        what: String,
    },
}
