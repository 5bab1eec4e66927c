//! What a release is judged by, beside the proposal: the engine's own counters, never a claim.

use super::counts::CountsNoise;
use super::session::DpSession;
use super::{GateLimits, Part, Proposal};
use crate::permit::Action;

/// Everything a release is judged by, beside the proposal.
pub(super) struct Asked<'a> {
    pub parts: &'a [Part<'a>],
    pub protections: &'a [Protection],
    pub session: Option<&'a DpSession>,
    pub counts: Option<&'a CountsNoise>,
    pub limits: &'a GateLimits,
}

impl Asked<'_> {
    /// The operator's own floor is for what is trained on.
    pub(super) fn min_rows(&self, part: &Part<'_>) -> u64 {
        match part.permit.action() {
            Action::Train => self.limits.min_rows,
            _ => 0,
        }
    }
}

/// The part that was trained on.
pub(super) fn trained<'a>(parts: &'a [Part<'a>]) -> Option<&'a Part<'a>> {
    parts.iter().find(|p| p.permit.action() == Action::Train)
}

/// The part that was evaluated on.
pub(super) fn evaluated<'a>(parts: &'a [Part<'a>]) -> Option<&'a Part<'a>> {
    parts.iter().find(|p| p.permit.action() == Action::Evaluate)
}

/// What the engine itself saw of one part's privacy: counters, never a claim.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Protection {
    /// `off`, `secure`, or `insecure_test` (a seeded generator).
    pub dp: &'static str,
    pub reservation: Option<String>,
}

/// What the engine's own counters say. Coordinates that moved without noise make the whole update unprotected.
pub(super) fn protection(
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
