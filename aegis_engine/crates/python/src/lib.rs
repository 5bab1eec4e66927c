//! `aegis_engine._native`: conversion and registration, nothing else may be put here. Work is done with the GIL released.
//!
//! Plaintext goes straight into and out of the caller's buffers (`buffer.rs` and `data/arrow.rs`, the only places with `unsafe`); small values are
//! copied.

// Nobody reads Rust documentation of this crate: the Python stub `_native.pyi` documents every name.
#![allow(missing_docs, clippy::missing_docs_in_private_items)]
// PyO3 extracts arguments by value.
#![allow(clippy::needless_pass_by_value)]
// Methods of Python's file objects need a `self` whether or not they use it.
#![allow(clippy::unused_self)]
// Python signatures have keyword arguments; in Rust they are plain parameters.
#![allow(clippy::too_many_arguments)]

mod buffer;
mod convert;
mod data;
mod earlier;
mod error;
mod handle;
mod jail;
mod keys;
mod noise;
mod permits;
mod progress;
mod secagg;
mod under_way;
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

/// All names of the module, by the file that has them.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::debug_build;
    #[pymodule_export]
    use crate::buffer::{SecretBuffer, secret_buffer};
    #[pymodule_export]
    use crate::data::arrow::ColumnBuffer;
    #[pymodule_export]
    use crate::data::batches::{TableBatch, TableBatches};
    #[pymodule_export]
    use crate::data::readers::{ObjectReader, RecordReader};
    #[pymodule_export]
    use crate::data::records::{RecordStream, Records, shuffle_order};
    #[pymodule_export]
    use crate::data::schema::TableSchema;
    #[pymodule_export]
    use crate::data::tables::TableReader;
    #[pymodule_export]
    use crate::handle::Vault;
    #[pymodule_export]
    use crate::jail::{jail_build_view, jail_confine, jail_layers, jail_leave_host};
    #[pymodule_export]
    use crate::keys::KeyProvider;
    #[pymodule_export]
    use crate::noise::{Rng, clip_l2};
    #[pymodule_export]
    use crate::permits::engine::ComplianceEngine;
    #[pymodule_export]
    use crate::permits::permit::Permit;
    #[pymodule_export]
    use crate::permits::proposal::{Limits, Proposal};
    #[pymodule_export]
    use crate::permits::release::Release;
    #[pymodule_export]
    use crate::permits::request::Request;
    #[pymodule_export]
    use crate::permits::session::DpSession;
    #[pymodule_export]
    use crate::secagg::client::SecAggClient;
    #[pymodule_export]
    use crate::secagg::plan::{SecAggPlan, encode_update};
    #[pymodule_export]
    use crate::secagg::roster::{Identity, roster_open, roster_sign, signature_holds};
    #[pymodule_export]
    use crate::secagg::server::{SecAggServer, honest_inputs};
    #[pymodule_export]
    use crate::secagg::sum::SecAggSum;
    #[pymodule_export]
    use crate::vault::audit::{audit_read, audit_verify};
    #[pymodule_export]
    use crate::vault::drafts::TableDraft;
    #[pymodule_export]
    use crate::vault::maintain::{bench_cipher, doctor, harden_process};
    #[pymodule_export]
    use crate::vault::names::normal_name;
    #[pymodule_export]
    use crate::vault::writer::Writer;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
