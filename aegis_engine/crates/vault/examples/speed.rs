//! Prints the speed of storing and reading 256 MiB, next to plain reads of the same file in the same run.
//!
//! `cargo run --release -p aegis-vault --example speed [folder]`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use aegis_policy::Action;
use aegis_vault::{Meta, Provider, Result, Vault};

const BYTES: usize = 256 << 20;

fn rate(name: &str, bytes: usize, start: Instant) {
    #[allow(clippy::cast_precision_loss)] // a figure for people
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "{name:<34} {:6.2} GB/s",
        gigabytes / start.elapsed().as_secs_f64()
    );
}

fn main() -> Result<()> {
    let base = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, Into::into);
    let folder = base.join(format!("aegis-speed-{}", std::process::id()));
    let vault = Vault::create(&folder, &Provider::raw(&[7; 32])?)?;
    let data = vec![0x5a; BYTES];
    let start = Instant::now();
    let id = vault.store_bytes(&data, Meta::named("speed"))?;
    rate("store from memory, with fsync", BYTES, start);
    let mut out = data;
    let path = vault
        .path()
        .join(format!("objects/{}/{id}.enc", &id.to_string()[..2]));
    let permit = Arc::new(vault.owner_permit(id, Action::Read)?);
    let reader = vault.reader(&permit, id)?;
    for _ in 0..3 {
        let start = Instant::now();
        if File::open(&path)
            .and_then(|file| file.read_exact_at(&mut out, 4096))
            .is_ok()
        {
            rate("plain pread into memory", BYTES, start);
        }
        let start = Instant::now();
        reader.read_at(0, &mut out)?;
        rate("decrypting read into memory", BYTES, start);
        let start = Instant::now();
        vault.verify(id)?;
        rate("verify", BYTES, start);
    }
    let start = Instant::now();
    for i in 0..2000_u64 {
        reader.read_at(i * 7_919 * 4096 % (BYTES as u64 - 4096), &mut out[..4096])?;
    }
    println!(
        "random 4 KiB of 1 MiB chunks       {:6.0} µs",
        start.elapsed().as_secs_f64() * 1e6 / 2000.0
    );
    drop(reader);
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        eprintln!("aegis: {} is left behind: {error}", folder.display());
    }
    Ok(())
}
