//! Rows under governance that are kept as tables: storing them, opening them under a permit, writing them anew.

pub(crate) mod draft;
pub(crate) mod open;
pub(crate) mod read;
pub(crate) mod rewrite;
pub(crate) mod source;
pub(crate) mod store;
