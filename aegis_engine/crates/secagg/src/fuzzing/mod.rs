//! Only what fuzzers call may be put here.
//!
//! Every decoder and both state machines against a peer that sends what it likes, for `fuzz/` and `tests/fuzz_short.rs`.
//! Not an interface.
//!
//! The functions panic when a promise is broken: a value has one encoding and needs little memory, a refused call
//! changes nothing, a client never gives both kinds of share, a sum is the plain sum or an error.

mod client;
mod codecs;
mod material;
mod program;
mod server;

use std::cell::Cell;

pub use client::{client, client_seeds};
pub use codecs::{codec_seeds, codecs};
pub use server::{server, server_seeds};

/// A chunk of 64-bit lanes is 32 KiB; set-up and collections get the rest.
const ALLOCATION_MAX: usize = 1 << 20;

thread_local! {
    static ALLOCATION: Cell<usize> = const { Cell::new(ALLOCATION_MAX) };
}

/// The largest allocation that the input in hand can justify. The allocators of the fuzzers ask at each.
pub fn allocation_max() -> usize {
    if std::thread::panicking() {
        return usize::MAX; // a backtrace takes more
    }
    ALLOCATION.try_with(Cell::get).unwrap_or(ALLOCATION_MAX)
}

/// Calls `decode` on at most the memory that `len` bytes of input can justify: a name of a metric takes 24 bytes and at
/// least 4 of input, and a list may grow by doubling.
fn bounded<T>(len: usize, decode: impl FnOnce() -> T) -> T {
    ALLOCATION.set(4096 + 12 * len);
    let value = decode();
    ALLOCATION.set(ALLOCATION_MAX);
    value
}
