//! What comes out of a vault under a permit may be put here, and how data sets go in: readers, records, tables, in the forms Python's
//! libraries take.

pub mod arrow;
pub mod batches;
mod csv;
mod fill;
mod numpy;
mod open;
pub mod readers;
pub mod records;
pub mod schema;
mod store;
mod streams;
pub mod tables;
