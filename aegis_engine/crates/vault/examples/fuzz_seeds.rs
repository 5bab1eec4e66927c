//! Writes valid inputs for the fuzzers into `<folder>/<target>/`.
//!
//! `cargo run --release -p aegis-vault --features fuzzing --example fuzz_seeds -- crates/vault/fuzz/corpus`

#[path = "../../../fuzzing/seeds.rs"]
mod seeds;

use aegis_vault::fuzzing;

fn main() -> std::io::Result<()> {
    seeds::write([
        ("header", fuzzing::header_seeds()),
        ("keystore", fuzzing::keystore_seeds()),
        ("reader", fuzzing::reader_seeds()),
    ])?;
    fuzzing::clean();
    Ok(())
}
