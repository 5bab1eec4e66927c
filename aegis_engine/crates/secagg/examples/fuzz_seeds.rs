//! Writes valid inputs for the fuzzers into `<folder>/<target>/`.
//!
//! `cargo run --release -p aegis-secagg --features fuzzing --example fuzz_seeds -- crates/secagg/fuzz/corpus`

use std::path::PathBuf;

use aegis_secagg::fuzzing;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    let all = [
        ("codecs", fuzzing::codec_seeds()),
        ("client", fuzzing::client_seeds()),
        ("server", fuzzing::server_seeds()),
    ];
    for (target, seeds) in all {
        let folder = root.join(target);
        std::fs::create_dir_all(&folder)?;
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n}")), seed)?;
        }
    }
    Ok(())
}
