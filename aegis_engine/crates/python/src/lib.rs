//! `aegis_engine._native`: conversion and registration, nothing else. Work is done with the GIL released.
//!
//! Plaintext goes straight into and out of the caller's buffers (`buffer.rs`, the one place with `unsafe`); small values are
//! copied.

// Nobody reads Rust documentation of this crate: the Python stub `_native.pyi` documents every name.
#![allow(missing_docs, clippy::missing_docs_in_private_items)]
// PyO3 extracts arguments by value.
#![allow(clippy::needless_pass_by_value)]
// Methods of Python's file objects need a `self` whether or not they use it.
#![allow(clippy::unused_self)]
// Python signatures have keyword arguments; in Rust they are plain parameters.
#![allow(clippy::too_many_arguments)]

mod arrow;
mod audit;
mod buffer;
mod convert;
mod dataset;
mod error;
mod keys;
mod manage;
mod noise;
mod numbers;
mod policy;
mod readers;
mod roster;
mod secagg;
mod store;
mod streams;
mod tables;
mod vault;

use pyo3::prelude::*;

/// Arrow arrays, decompressed pages and other large blocks: outside core dumps, cleared when freed.
#[global_allocator]
static ALLOCATOR: aegis_memory::Allocator = aegis_memory::Allocator;

/// Whether the engine was compiled without optimisation.
#[pyfunction]
fn debug_build() -> bool {
    cfg!(debug_assertions)
}

#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_function(wrap_pyfunction!(debug_build, m)?)?;
    audit::register(m)?;
    buffer::register(m)?;
    dataset::register(m)?;
    keys::register(m)?;
    manage::register(m)?;
    noise::register(m)?;
    policy::register(m)?;
    readers::register(m)?;
    roster::register(m)?;
    secagg::register(m)?;
    store::register(m)?;
    arrow::register(m)?;
    tables::register(m)?;
    vault::register(m)
}
