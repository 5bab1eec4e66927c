//! What a dataset says of itself may be put here: which rows, of what class and subject, under which facts of its steward. Nothing here
//! decides.

pub mod facts;
mod index;
mod set;
mod subject;

pub use facts::{BASES, DatasetFacts, Role};
#[cfg(test)]
pub(crate) use index::MAGIC;
pub use index::{Class, MAX_CLASSES, RowIndex};
pub use set::RowSet;
pub(crate) use subject::count_distinct;
pub use subject::{BySubject, Subject, distinct};
