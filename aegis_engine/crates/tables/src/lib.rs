//! Columns out of Parquet and CSV, as Arrow arrays.
//!
//! - [`Source`] is where the bytes come from: a sealed object, a file, memory. Every read may be refused.
//! - [`Table`] is an opened file: schema, rows, blocks (row groups of Parquet, runs of lines of CSV).
//! - [`Scan`] says what to read; [`Batches`] yields it. Columns are chosen before anything is decoded: the byte ranges of
//!   other Parquet columns are never asked for, and other CSV fields are split off but never parsed. Rows outside
//!   [`Rows`] reach no array.
//! - [`Writer`] writes batches as Parquet.
//! - A damaged or hostile file gives a [`TableError`], never a panic.
//!
//! What is kept out of core dumps: bytes as they come from the source, CSV lines and fields ([`aegis_memory::Pages`]).
//! Decompressed pages and the arrays themselves come from the global allocator, because Arrow has no hook for another.
#![forbid(unsafe_code)]

mod batches;
mod csv;
mod error;
mod guard;
mod parquet;
mod rows;
mod scan;
mod schema;
mod size;
mod source;
mod table;
mod writer;

pub use batches::Batches;
pub use csv::{Block, CsvOptions, Kind, Scanner, once};
pub use error::{Result, TableError};
pub use rows::Rows;
pub use scan::{BATCH_BYTES, Format, STREAM_BYTES, Scan};
pub use schema::materialized;
pub use source::{Source, SourceError};
pub use table::Table;
pub use writer::Writer;
