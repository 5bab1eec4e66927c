//! Rows under governance: storing, reading under a permit, the people they are of, their consent and lineages.

pub(crate) mod consents;
pub(crate) mod erase;
pub(crate) mod lineage;
#[cfg(feature = "tables")]
pub(crate) mod object_source;
pub(crate) mod people;
pub(crate) mod records;
pub(crate) mod store;
#[cfg(feature = "tables")]
pub(crate) mod store_table;
#[cfg(feature = "tables")]
pub(crate) mod table;
