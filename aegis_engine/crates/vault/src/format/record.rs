//! What the keystore holds of an object, and what one commit changes of it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::secret::Secret;

/// nonce 12 ‖ wrapped DEK 32 ‖ tag 16
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
pub(crate) struct Record {
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
    Live(Box<Record>),
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

/// What one commit changes. Applying it is a pure insertion; keys that nobody needs any more go by themselves.
#[derive(Default)]
pub(crate) struct Delta {
    /// Only in a new base.
    pub bundle: Option<[u8; 32]>,
    /// New subjects.
    pub subjects: BTreeMap<[u8; 16], Secret<32>>,
    /// Objects that are new, have another name, or (only in a new base) are shredded.
    pub entries: BTreeMap<Uuid, Entry>,
    /// Copies to be known from now on.
    pub copies: Vec<KnownCopy>,
    /// Heads that moved.
    pub heads: BTreeMap<String, NamedHead>,
}

/// The live record behind `entry`, or why there is none.
pub(crate) fn live(entry: Option<&Entry>, object: Uuid) -> Result<&Record> {
    match entry {
        Some(Entry::Live(record)) => Ok(record),
        Some(Entry::Shredded { when }) => Err(VaultError::ObjectShredded {
            object,
            when: *when,
        }),
        None => Err(VaultError::ObjectNotFound { object }),
    }
}

/// Both, by key; what `over` has takes the place of what `under` has.
pub(crate) fn merge<'a, K: Ord, V>(
    under: &'a BTreeMap<K, V>,
    over: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let (mut under, mut over) = (under.iter().peekable(), over.iter().peekable());
    std::iter::from_fn(move || match (under.peek(), over.peek()) {
        (Some((low, _)), Some((high, _))) => match low.cmp(high) {
            std::cmp::Ordering::Less => under.next(),
            std::cmp::Ordering::Greater => over.next(),
            std::cmp::Ordering::Equal => {
                under.next();
                over.next()
            }
        },
        (Some(_), None) => under.next(),
        (None, _) => over.next(),
    })
}
