//! What a record of the ledger changes.

use aegis_audit::Event;

/// What a record of the ledger changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Consent is given.
    Grant,
    /// Consent is withdrawn.
    Withdraw,
    /// An objection is made.
    Object,
    /// A restriction is made.
    Restrict,
    /// Objections and restrictions are lifted.
    Lift,
    /// A person is erased.
    Erase,
}

impl Change {
    /// The last word of its event.
    pub fn name(self) -> &'static str {
        self.event().name().rsplit('.').next().unwrap_or_default()
    }

    pub(super) fn event(self) -> Event {
        match self {
            Self::Grant => Event::ConsentGrant,
            Self::Withdraw => Event::ConsentWithdraw,
            Self::Object => Event::ConsentObject,
            Self::Restrict => Event::ConsentRestrict,
            Self::Lift => Event::ConsentLift,
            Self::Erase => Event::ConsentErase,
        }
    }
}
