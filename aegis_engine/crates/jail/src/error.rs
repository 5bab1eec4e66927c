//! What can go wrong while a jail is put up.

use std::io;

use crate::Layer;

/// A jail could not be put up. Nothing untrusted has run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailError {
    /// The kernel, or its configuration, does not give a layer.
    #[error("the jail's layer {} is not to be had here: {what}: {source}", layer.name())]
    Layer {
        /// The layer that is missing.
        layer: Layer,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path of the view is not there.
    #[error("the jail's view names {path}, which cannot be opened: {source}")]
    Path {
        /// The path.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process has more than one thread, so a step would hold for one of them only.
    #[error("a jail is put up in a process of one thread, and this one has {0}")]
    Threads(usize),
}

impl JailError {
    /// Stable identifier, documented in `docs/ERRORS.md`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Layer { .. } => "AEG-J001",
            Self::Path { .. } => "AEG-J002",
            Self::Threads(_) => "AEG-J003",
        }
    }

    pub(crate) fn layer(layer: Layer, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Layer {
            layer,
            what,
            source,
        }
    }
}
