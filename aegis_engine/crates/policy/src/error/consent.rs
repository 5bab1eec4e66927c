//! What can go wrong with the consent ledger, and with the names in it.

use std::path::PathBuf;

use aegis_audit::AuditError;

/// Longest name of a person or a purpose, in bytes.
pub const LONGEST: usize = 256;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing is left after trimming.
    Empty,
    /// More bytes than [`LONGEST`].
    Long,
    /// A control character, a line break, an invisible character, or one that turns the direction of writing.
    Invisible(char),
    /// It did not go through [`normal`].
    Unnormal,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::Unnormal => write!(
                f,
                "it is not in composed form (NFC), or has space around it"
            ),
            Self::Long => write!(f, "it has more than {LONGEST} bytes"),
            Self::Invisible(c) => write!(
                f,
                "it has the character U+{:04X}, which is not seen or changes how the rest is seen",
                u32::from(*c)
            ),
        }
    }
}

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsentError {
    /// The log underneath.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// A record this version does not understand; ignoring it could ignore a withdrawal.
    #[error(
        "consent record {seq} cannot be understood ({reason}): update the engine or restore the ledger"
    )]
    Unreadable {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Erasure is final.
    #[error(
        "a subject of this grant is erased: erasure is final, take the person in under a new pseudonym"
    )]
    Erased,
    /// A purpose that cannot be recorded.
    #[error("this is no name of a purpose: {flaw}; correct it")]
    BadPurpose {
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// Neither.
    #[error("this is no name: {flaw}; correct it")]
    BadName {
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// An identifier that names nobody.
    #[error("this is no identifier of a person: {flaw}; correct it")]
    BadSubject {
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The keystore knows of records that are not there: an older file was put back.
    #[error(
        "an older consent ledger was put back, or it was rewritten: {left} records are left, {expected} were there; restore the newest copy of the folder consent/ (withdrawals may be missing, so nothing is allowed)"
    )]
    RolledBack {
        /// Records that the keystore knows of.
        expected: u64,
        /// Records that are there.
        left: u64,
    },
    /// No row of a live dataset is theirs.
    #[error(
        "{count} of the people named are without a row in any live data set{hint}; nothing was recorded. Correct the identifier, or say unknown_ok=True to record it all the same"
    )]
    UnknownSubject {
        /// How many.
        count: usize,
        /// What they may have meant.
        hint: &'static str,
    },
    /// No live dataset may be used for it.
    #[error(
        "no live data set has the purpose {purpose:?}{hint}; nothing was recorded. Correct it, or say unknown_ok=True to record it all the same"
    )]
    UnknownPurpose {
        /// As given.
        purpose: String,
        /// What they may have meant.
        hint: String,
    },
    /// Rows of erased people.
    #[error(
        "{rows} rows are of people who are erased: erasure is final. Leave these rows out (ingest: erased=\"drop\"); nothing was stored"
    )]
    ErasedRows {
        /// How many.
        rows: usize,
    },
    /// Other processes append faster than this one reads.
    #[error("the consent ledger does not come to rest: try again when the import is done")]
    Busy,
    /// The file cannot be seen.
    #[error("cannot stat the consent ledger {}: {source}; restore it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}
