//! Writes valid inputs for the fuzzers into `<folder>/<target>/`.
//!
//! `cargo run --release -p aegis-vault --features fuzzing --example fuzz_seeds -- crates/vault/fuzz/corpus`

use std::path::PathBuf;

use aegis_vault::fuzzing;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    let all = [
        ("header", fuzzing::header_seeds()),
        ("keystore", fuzzing::keystore_seeds()),
        ("reader", fuzzing::reader_seeds()),
    ];
    for (target, seeds) in all {
        let folder = root.join(target);
        std::fs::create_dir_all(&folder)?;
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n}")), seed)?;
        }
    }
    fuzzing::clean();
    Ok(())
}
