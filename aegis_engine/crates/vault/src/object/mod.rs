//! One sealed file: its keys, reading, writing, checking.

pub(crate) mod bulk;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod draft;
pub(crate) mod file;
pub(crate) mod keys;
pub(crate) mod read;
pub(crate) mod writer;
