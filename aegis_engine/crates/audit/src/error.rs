//! What can go wrong with a log, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::head::Head;

/// An error of the audit log. None of them leaves the log changed, and none carries content of a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Bytes of the log are not what was written. Never repaired.
    #[error(
        "audit log {} was changed at record {seq} (offset {offset}): {reason}; keep the file as evidence and restore the log from a backup", file.display()
    )]
    Tampered {
        /// The file.
        file: PathBuf,
        /// The first record that does not check; 0 as well when it is the file header (offset below 64).
        seq: u64,
        /// Where this record starts in the file, in bytes.
        offset: u64,
        /// Which check failed.
        reason: &'static str,
    },
    /// The file ends inside a record: a crash in an append, or the end cut off.
    #[error(
        "audit log {} ends inside record {seq} (offset {offset}, {bytes} bytes are left): open it for appending to cut the torn tail, after checking that a crash explains it", file.display()
    )]
    Torn {
        /// The file.
        file: PathBuf,
        /// The record that is not whole.
        seq: u64,
        /// Where it starts in the file, in bytes.
        offset: u64,
        /// How many bytes of it there are.
        bytes: u64,
    },
    /// A head kept elsewhere is not in the chain: records were cut off, or history was written anew.
    #[error(
        "audit log {} does not contain the head {expected} seen before (found {found}): records were removed or replaced, restore the newer log", file.display()
    )]
    Rollback {
        /// The file.
        file: PathBuf,
        /// The head kept elsewhere.
        expected: Head,
        /// The head of the log where they part: at the same record, or its last one when it is shorter.
        found: Head,
    },
    /// The log belongs to something else, such as another vault.
    #[error("audit log {} belongs to another origin: it was moved or copied here, put back the log of this vault", file.display())]
    WrongOrigin {
        /// The file.
        file: PathBuf,
    },
    /// The log cannot promise durability: nothing may be decided until it is opened again.
    #[error("audit log {} takes no records: {reason}; solve this, then open the vault again", file.display())]
    Unavailable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The record does not fit a frame.
    #[error("audit record has {bytes} bytes, more than {max}: split it")]
    TooLarge {
        /// Bytes of its canonical form.
        bytes: usize,
        /// The bound, [`crate::MAX_PAYLOAD`].
        max: usize,
    },
    /// The record has no canonical form; nothing was written.
    #[error("audit record cannot be written: {reason}")]
    NotCanonical {
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The log lies where nothing can be written.
    #[error("audit log {} is on a file system that is only for reading: what must be on record first is not done; mount it for writing, or copy the vault", file.display())]
    ReadOnly {
        /// The file.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        op: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl AuditError {
    /// A code that stays the same from version to version.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tampered { .. } => "AEG-A001",
            Self::Torn { .. } => "AEG-A002",
            Self::Rollback { .. } => "AEG-A003",
            Self::WrongOrigin { .. } => "AEG-A004",
            Self::Unavailable { .. } => "AEG-A005",
            Self::TooLarge { .. } => "AEG-A006",
            Self::NotCanonical { .. } => "AEG-A007",
            Self::Io { .. } => "AEG-A008",
            Self::ReadOnly { .. } => "AEG-A009",
        }
    }

    /// For `map_err`: names the step and the file.
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            op,
            path: path.to_path_buf(),
            source,
        }
    }
}
