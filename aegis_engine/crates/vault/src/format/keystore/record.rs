//! What the keystore knows of each object, of copies of itself, and of logs and ledgers outside.

use uuid::Uuid;

use crate::error::{Result, VaultError};

/// A wrapped content key: nonce 12 ‖ wrapped DEK 32 ‖ tag 16.
pub(crate) const WRAPPED: usize = 60;

/// What an object holds. Set by the vault, not by the caller: governance rows open without a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Rows,
}

/// The key record of a live object.
#[allow(clippy::struct_field_names)] // "key record id" is the name in the format
#[derive(Debug, Clone)]
pub(crate) struct KeyRecord {
    pub object: Uuid,
    pub kind: Kind,
    pub key_record: Uuid,
    pub subject: [u8; 16],
    /// The governance rows of a dataset.
    pub rows: Option<Uuid>,
    pub wrapped: [u8; WRAPPED],
    /// Says which version of the file is current.
    pub header_mac: [u8; 32],
    pub length: u64,
    pub created: u64,
    /// After a rename; the header keeps the name given at store.
    pub name: Option<String>,
}

/// A backup of the keystore that shredding does not reach.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KnownCopy {
    /// Seconds since 1970.
    pub when: u64,
    /// Epoch of the copied keystore.
    pub epoch: u64,
    /// Generation of the copied keystore.
    pub generation: u64,
    /// Where it was written.
    pub label: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Live(Box<KeyRecord>),
    Shredded { when: u64 },
}

/// How far something outside the keystore has come: a log, a ledger. Putting back an older one is then found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedHead {
    /// Its number of records.
    pub count: u64,
    /// A hash or MAC of what they are.
    pub mac: [u8; 32],
}

/// The live record behind `entry`, or why there is none.
pub(crate) fn live(entry: Option<&Entry>, object: Uuid) -> Result<&KeyRecord> {
    match entry {
        Some(Entry::Live(record)) => Ok(record),
        Some(Entry::Shredded { when }) => Err(VaultError::ObjectShredded {
            object,
            when: *when,
        }),
        None => Err(VaultError::ObjectNotFound { object }),
    }
}
