//! What concerns one sealed file goes here: its keys, reading it, writing it, checking it.

pub(crate) mod bulk;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod draft;
pub(crate) mod file;
pub(crate) mod keys;
pub(crate) mod names;
pub(crate) mod reader;
pub(crate) mod writer;
#[cfg(feature = "tables")]
pub(crate) mod written;
