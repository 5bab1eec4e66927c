//! Bytes on disk and the types they are: no input or output, no keys kept.

pub(crate) mod changes;
pub(crate) mod chunk;
pub(crate) mod envelope;
pub(crate) mod governance;
pub(crate) mod header;
pub(crate) mod keystore;
pub(crate) mod layout;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod record;
pub(crate) mod schema;
pub(crate) mod sections;
