//! Why a roster is not taken.

use crate::error::SecAggError;

/// Why a roster is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// Not a roster, or not in its one spelling.
    #[error(
        "line {line} of the roster: {reason}; have the operator sign it again with `aegis roster sign`"
    )]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is expected there.
        reason: &'static str,
    },
    /// Signed by another key than the pinned one.
    #[error(
        "the roster is signed by {found}, this node pins {pinned}; ask the operator which of the two is right"
    )]
    OtherSigner {
        /// Pinned key, in hex.
        pinned: String,
        /// Key in the file, in hex.
        found: String,
    },
    /// The signature does not verify: the file was changed after it was signed.
    #[error(
        "the signature of the roster does not verify: it was changed after it was signed; get it from the operator again"
    )]
    BadSignature,
    /// Its time has passed.
    #[error("the roster expired {since} s ago; get a new one from the operator")]
    Expired {
        /// Seconds since then.
        since: u64,
    },
    /// Issued in the future by more than a day: one of the two clocks is wrong.
    #[error("the roster was issued {ahead} s in the future; check the clock of this node")]
    NotYet {
        /// Seconds until then.
        ahead: u64,
    },
    /// Older than one that this node has taken.
    #[error(
        "roster {serial} is older than {last}, which this node has taken; get the current one from the operator"
    )]
    OlderSerial {
        /// Serial of the file.
        serial: u64,
        /// Serial last taken.
        last: u64,
    },
    /// Another roster of the same serial: the operator signed two.
    #[error(
        "there are two different rosters of serial {serial}; the operator must sign one with a higher serial"
    )]
    TwoOfASerial {
        /// The serial.
        serial: u64,
    },
    /// A member that cannot be written.
    #[error("member {name:?}: {reason}")]
    Member {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The engine's cryptography failed.
    #[error(transparent)]
    Crypto(#[from] SecAggError),
}

impl RosterError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "AEG-S030",
            Self::OtherSigner { .. } => "AEG-S031",
            Self::BadSignature => "AEG-S032",
            Self::Expired { .. } => "AEG-S033",
            Self::NotYet { .. } => "AEG-S034",
            Self::OlderSerial { .. } => "AEG-S035",
            Self::TwoOfASerial { .. } => "AEG-S036",
            Self::Member { .. } => "AEG-S037",
            Self::Crypto(inner) => inner.code(),
        }
    }
}
