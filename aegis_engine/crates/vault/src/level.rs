//! How much a shred proves. The one word for it, from the key providers to the receipts; it imports nothing.

use std::fmt;

use serde::Serialize;

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
