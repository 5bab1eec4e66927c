//! What a shred reached, and what it could not reach.

use serde::Serialize;
use uuid::Uuid;

use crate::format::keystore::KnownCopy;
use crate::level::Level;

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
    /// Sequence number of the audit record.
    pub audit_seq: u64,
    /// Backups of the keystore that were made on purpose and still open what they hold.
    pub copies: Vec<KnownCopy>,
    /// What the shred does not reach on this machine.
    pub caveats: Vec<String>,
}
