//! The engine and a second implementation of the format page (`tests/reference/audit_writer.py`) write the same bytes.

mod common;

use std::path::Path;

use aegis_audit::{Log, verify};
use common::{ORIGIN, bytes};
use serde_json::json;

const HEAD: &str = "3:89d19bd9cf05216431fdc8de81e26aa101b69dc94f46435a9a02bf36697611bc";

#[test]
fn the_log_written_in_python_verifies() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/vectors/audit");
    let head = HEAD.parse().unwrap();
    let report = verify(&dir, Some(ORIGIN), Some(&head)).unwrap();
    assert_eq!((report.records, report.head), (3, head));
}

#[test]
fn the_engine_writes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), ORIGIN).unwrap();
    for body in [
        json!({"time": "2026-01-02T03:04:05.678Z", "event": "authorize", "rows_denied": {"core.retention": 2, "core.consent": 1}}),
        json!({"time": "2026-01-02T03:04:05.679Z", "text": "ä\n\"\\\u{1f}\u{7f}\u{10000}", "n": [i64::MIN, u64::MAX, true, null]}),
        json!({"time": "2026-01-02T03:04:05.680Z", "\u{ffff}": [], "\u{10000}": {}}),
    ] {
        log.append(&body).unwrap();
    }
    assert_eq!(log.head().to_string(), HEAD);
    assert_eq!(
        bytes(dir.path()),
        include_bytes!("../../../../tests/vectors/audit/000001.log")
    );
}
