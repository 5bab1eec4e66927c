//! `cargo run --release -p aegis-audit --example speed`: durable appends and verified records a second.

use std::time::Instant;

use aegis_audit::{AuditError, Log, verify};
use serde_json::json;

#[allow(clippy::cast_precision_loss, reason = "counts to print")]
fn main() -> Result<(), AuditError> {
    let dir = std::env::temp_dir().join(format!("aegis-audit-speed-{}", std::process::id()));
    let log = Log::open(&dir, "speed")?;
    let body = json!({"event": "authorize", "decision": "allow", "purpose": "training", "pad": "x".repeat(150)});
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 20_000 && start.elapsed().as_secs() < 10 {
        let one = Instant::now();
        log.append(&body)?;
        times.push(one.elapsed());
    }
    times.sort_unstable();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "append: {:.0}/s, p50 {half:?}, p99 {most:?}",
        times.len() as f64 / start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let report = verify(&dir, Some("speed"), Some(&log.head()))?;
    println!(
        "verify: {:.0} records/s of {} bytes",
        report.records as f64 / start.elapsed().as_secs_f64(),
        report.bytes / report.records
    );
    std::fs::remove_dir_all(&dir).map_err(|source| AuditError::Io {
        op: "remove",
        path: dir,
        source,
    })
}
