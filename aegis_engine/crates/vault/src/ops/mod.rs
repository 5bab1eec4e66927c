//! Verbs on a vault go here, one file each. Nouns live in the rooms below.

pub(crate) mod backup;
#[doc(hidden)]
pub mod bench;
pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod fsck;
pub(crate) mod govern;
pub(crate) mod heads;
pub(crate) mod list;
pub(crate) mod many;
pub(crate) mod newest_time;
pub(crate) mod open;
pub(crate) mod receipt;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod reencrypt;
pub(crate) mod rename;
pub(crate) mod restore;
pub(crate) mod rotate;
pub(crate) mod scrub;
pub(crate) mod shred;
pub(crate) mod store;
pub(crate) mod verify;
