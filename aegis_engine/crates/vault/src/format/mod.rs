//! Bytes on disk, and the types they become, go here. Nothing here knows a vault or decides anything.

pub(crate) mod changes;
pub(crate) mod chunk;
pub(crate) mod envelope;
pub(crate) mod header;
pub(crate) mod keystore;
pub(crate) mod kind;
pub(crate) mod meta;
pub(crate) mod name;
pub(crate) mod paths;
pub(crate) mod schema;
