//! `cargo run --release -p aegis-noise --example speed`: milliseconds for a million of each, one thread, best of 9.

use std::hint::black_box;
use std::time::Instant;

use aegis_noise::{NoiseError, Rng, add_gaussian, clip_l2, gaussian, l2_norm, poisson_rows};

const MILLION: usize = 1_000_000;

fn best(name: &str, mut work: impl FnMut() -> Result<(), NoiseError>) -> Result<(), NoiseError> {
    let mut best = f64::INFINITY;
    for _ in 0..9 {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{name:<13} {best:6.2} ms per 10^6");
    Ok(())
}

fn main() -> Result<(), NoiseError> {
    let mut rng = Rng::from_os()?;
    let mut out = vec![0.0; MILLION];
    best("gaussian", || gaussian(&mut rng, black_box(&mut out), 1.1))?;
    best("add_gaussian", || {
        add_gaussian(&mut rng, black_box(&mut out), 1.1)
    })?;
    best("poisson_rows", || {
        poisson_rows(&mut rng, MILLION as u64, 0.01).map(|rows| drop(black_box(rows)))
    })?;
    best("l2_norm", || {
        black_box(l2_norm(black_box(&out)));
        Ok(())
    })?;
    let large = vec![1.0; MILLION];
    best("clip_l2", || {
        out.copy_from_slice(&large);
        black_box(clip_l2(black_box(&mut out), 1.0));
        Ok(())
    })
}
