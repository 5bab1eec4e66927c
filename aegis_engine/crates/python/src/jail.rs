//! The three steps of a jail, for the Python that forks between them.

use std::path::PathBuf;

use aegis_jail::{Confinement, Layer, Layers, Limits, View};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::Result;

/// New namespaces for the next child.
#[pyfunction]
pub fn jail_leave_host() -> Result<()> {
    Ok(aegis_jail::leave_host()?)
}

/// A file system of the named paths.
#[pyfunction]
pub fn jail_build_view(readable: Vec<PathBuf>) -> Result<()> {
    Ok(View { readable }.build()?)
}

/// The last step before a task.
#[pyfunction]
#[pyo3(signature = (readable, layers, *, cpu_seconds, memory, threads, scratch, files))]
pub fn jail_confine(
    readable: Vec<PathBuf>,
    layers: Vec<String>,
    cpu_seconds: u64,
    memory: u64,
    threads: u64,
    scratch: u64,
    files: u64,
) -> Result<()> {
    let mut chosen = Layers::NONE;
    for name in layers {
        let layer = Layer::of(&name)
            .ok_or_else(|| PyValueError::new_err(format!("{name:?} is no layer of a jail")))?;
        chosen = chosen.with(layer);
    }
    let limits = Limits {
        cpu_seconds,
        memory,
        threads,
        scratch,
        files,
    };
    let confinement = Confinement {
        readable,
        limits,
        layers: chosen,
    };
    Ok(confinement.apply()?)
}

/// The names of all layers, in the order in which they are put up.
#[pyfunction]
pub fn jail_layers() -> Vec<&'static str> {
    Layers::all().names()
}
