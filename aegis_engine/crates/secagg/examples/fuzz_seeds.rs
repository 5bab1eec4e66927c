//! Writes valid inputs for the fuzzers into `<folder>/<target>/`.
//!
//! `cargo run --release -p aegis-secagg --features fuzzing --example fuzz_seeds -- crates/secagg/fuzz/corpus`

#[path = "../../../fuzzing/seeds.rs"]
mod seeds;

use aegis_secagg::fuzzing;

fn main() -> std::io::Result<()> {
    seeds::write([
        ("codecs", fuzzing::codec_seeds()),
        ("client", fuzzing::client_seeds()),
        ("server", fuzzing::server_seeds()),
    ])
}
