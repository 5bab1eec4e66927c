//! Logs to break.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

use aegis_audit::{Head, Log};
use serde_json::json;
use tempfile::TempDir;

pub const ORIGIN: &str = "vault 6f1d";
pub const HEADER: usize = 64;
pub const FRAME: usize = 56;

/// A log of `n` records, and the head after each (the first is the head of the empty log).
pub fn small_log(n: u64) -> (TempDir, Vec<Head>) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), ORIGIN).unwrap();
    let mut heads = vec![log.head()];
    for i in 0..n {
        log.append(&json!({"event": "test", "n": i, "time": "2026-01-02T03:04:05.678Z"}))
            .unwrap();
        heads.push(log.head());
    }
    (dir, heads)
}

pub fn file(dir: &Path) -> PathBuf {
    dir.join("000001.log")
}

pub fn bytes(dir: &Path) -> Vec<u8> {
    fs::read(file(dir)).unwrap()
}

pub fn put(dir: &Path, bytes: &[u8]) {
    fs::write(file(dir), bytes).unwrap();
}

/// Where each record starts, and the end of the file.
pub fn boundaries(log: &[u8]) -> Vec<usize> {
    let mut at = HEADER;
    let mut all = vec![at];
    while at < log.len() {
        at += FRAME + u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        all.push(at);
    }
    all
}
