//! A jail for code that its operator does not trust: what it computes comes out by one region of shared memory, and nothing else.
//!
//! Three steps, each irreversible, in this order, in a process that has one thread:
//!
//! 1. [`leave_host`]: new user, network, pid, mount, IPC and UTS namespaces. The next child that is forked is their first process.
//! 2. [`View::build`], in that child: a file system of the paths that are named, read-only, and nothing else. This process is the
//!    trusted parent of tasks. It has imported what tasks need, and never sees an app or a row.
//! 3. [`Confinement::apply`], in a child of that parent, for each task: a fresh scratch folder, limits, no capability, Landlock,
//!    and a system-call filter that allows what numerical Python needs.
//!
//! Each step says which [`Layer`]s it put up. A layer that the kernel does not give is an error, unless it was left out by name:
//! the tests do so, to see which layers would have been enough alone.
//!
//! Namespaces: namespaces(7). Landlock: <https://docs.kernel.org/userspace-api/landlock.html>. seccomp: seccomp(2).
#![cfg(target_os = "linux")]

mod confine;
mod error;
mod filter;
mod layer;
mod limits;
mod namespaces;
mod rules;
mod view;

pub use confine::Confinement;
pub use error::JailError;
pub use layer::{Layer, Layers};
pub use limits::Limits;
pub use namespaces::leave_host;
pub use view::View;
