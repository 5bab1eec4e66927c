//! Memory for keys and plaintext: outside core dumps, cleared before it is given back.
//!
//! - [`Pages`]: whole pages for plaintext. `MADV_DONTDUMP`; cleared and unmapped on drop.
//! - [`Guarded`]: up to 64 bytes for one key, from shared key pages that are also locked into RAM where the limit
//!   allows it (`RLIMIT_MEMLOCK`) and read as zeros in a forked child (`MADV_WIPEONFORK`).
//! - [`Allocator`]: a global allocator whose large blocks are like [`Pages`], for code that allocates by itself (Arrow).
//! - [`harden_process`]: no core dumps and no `ptrace` by others, for the whole process.
//!
//! This crate, the buffer protocol of the bindings and two system calls of the jail are the only places of the engine with
//! `unsafe`.
#![allow(unsafe_code)]

mod alloc;
mod guarded;
mod harden;
mod map;
mod pages;

pub use alloc::{Allocator, LARGE};
pub use guarded::Guarded;
pub use harden::{harden_process, locked_limit};
pub use pages::Pages;
