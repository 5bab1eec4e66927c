//! What a shred reached, and what it could not reach.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use crate::keystore::KnownCopy;

/// How much a shred proves, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The key record is gone; the root that wrapped it lives on, an old copy of the keystore opens.
    Logical,
    /// The epoch secret was replaced and overwritten; copies of it outside the vault's control are not reached.
    RatchetedFile,
    /// A device destroyed the old root.
    Hardware,
    /// A key service destroyed the old root.
    Kms,
}

impl Level {
    /// The name used in receipts and configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logical => "logical",
            Self::RatchetedFile => "ratcheted-file",
            Self::Hardware => "hardware",
            Self::Kms => "kms",
        }
    }

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Logical,
            Self::RatchetedFile,
            Self::Hardware,
            Self::Kms,
        ]
        .into_iter()
        .find(|l| l.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Evidence of one shred; never claims more than was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShredReceipt {
    /// Objects whose keys are gone: the one asked for, and its governance rows.
    pub objects: Vec<Uuid>,
    /// The level reached.
    pub level: Level,
    /// Epoch whose secret was destroyed.
    pub epoch_before: u64,
    /// Epoch of the keystore now.
    pub epoch_after: u64,
    /// Seconds since 1970.
    pub when: u64,
    /// Whether the ciphertext files were removed, too (that only frees space).
    pub file_removed: bool,
    /// Sequence number of the audit record.
    pub audit_seq: u64,
    /// Backups of the keystore that were made on purpose and still open what they hold.
    pub copies: Vec<KnownCopy>,
    /// What the shred does not reach on this machine.
    pub caveats: Vec<String>,
}
