//! A crash in an append costs the record that was not acknowledged, and nothing else.

mod common;

use aegis_audit::{AuditError, Log, MAX_PAYLOAD, read, verify};
use common::{FRAME, ORIGIN, boundaries, bytes, put, small_log};
use serde_json::json;

/// Opens a log with a torn tail of `torn` bytes behind 2 records and checks what is left.
fn assert_recovers(torn_file: &[u8], whole: &[u8], torn: usize, dir: &std::path::Path) {
    put(dir, torn_file);
    assert!(
        matches!(verify(dir, None, None), Err(AuditError::Torn { seq: 2, bytes, .. }) if bytes == torn as u64)
    );
    assert_eq!(bytes(dir), torn_file, "verify writes nothing");
    let log = Log::open(dir, ORIGIN).unwrap();
    log.append(&json!({"event": "after"})).unwrap();
    let records: Vec<_> = read(dir).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 4);
    assert_eq!(
        &bytes(dir)[..whole.len()],
        whole,
        "whole records stay as they were"
    );
    assert_eq!(
        (&records[2].body["event"], &records[2].body["bytes"]),
        (&json!("recovery.truncated"), &json!(torn))
    );
    assert_eq!(records[3].body["event"], "after");
    verify(dir, Some(ORIGIN), Some(&log.head())).unwrap();
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_cut_is_recorded() {
    let (dir, _) = small_log(3);
    let good = bytes(dir.path());
    let at = boundaries(&good);
    for length in at[2] + 1..at[3] {
        assert_recovers(&good[..length], &good[..at[2]], length - at[2], dir.path());
    }
}

#[test]
fn a_tail_whose_end_reads_as_zeros_is_cut() {
    let (dir, _) = small_log(3);
    let good = bytes(dir.path());
    let at = boundaries(&good);
    for written in at[2]..at[3] {
        let mut zeros = good.clone();
        zeros[written..].fill(0);
        assert_recovers(&zeros, &good[..at[2]], at[3] - at[2], dir.path());
    }
    for zeros in [1, FRAME - 1, FRAME, 4096, FRAME + MAX_PAYLOAD] {
        let mut longer = good[..at[2]].to_vec();
        longer.resize(at[2] + zeros, 0);
        assert_recovers(&longer, &good[..at[2]], zeros, dir.path());
    }
}

#[test]
fn more_zeros_than_one_append_can_leave_are_not_cut() {
    let (dir, _) = small_log(1);
    let mut bad = bytes(dir.path());
    bad.resize(bad.len() + FRAME + MAX_PAYLOAD + 1, 0);
    put(dir.path(), &bad);
    assert!(matches!(
        Log::open(dir.path(), ORIGIN),
        Err(AuditError::Tampered { seq: 1, .. })
    ));
    assert_eq!(bytes(dir.path()), bad);
}

#[test]
fn an_open_log_cuts_what_another_process_left_torn() {
    let (dir, _) = small_log(2);
    let log = Log::open(dir.path(), ORIGIN).unwrap();
    let mut torn = bytes(dir.path());
    torn.extend([1, 2, 3]);
    put(dir.path(), &torn);
    let record = log.append(&json!({"event": "after"})).unwrap();
    assert_eq!(record.seq, 3);
    let events: Vec<_> = read(dir.path())
        .unwrap()
        .map(|record| record.unwrap().body["event"].clone())
        .collect();
    assert_eq!(events, ["test", "test", "recovery.truncated", "after"]);
}

#[test]
fn a_torn_file_header_is_no_crash_of_ours() {
    let (dir, _) = small_log(0);
    let good = bytes(dir.path());
    for length in 0..good.len() {
        put(dir.path(), &good[..length]);
        assert!(
            matches!(
                Log::open(dir.path(), ORIGIN),
                Err(AuditError::Tampered {
                    seq: 0,
                    offset: 0,
                    ..
                })
            ),
            "{length}"
        );
    }
}

#[test]
fn a_record_comes_back_as_it_was_with_its_time_added() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&dir.path().join("a/b"), ORIGIN).unwrap();
    let record = log
        .append(&json!({"z": 1, "a": [true, null, "ä"]}))
        .unwrap();
    let time = record.body["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    let kept = log.append(&json!({"time": "mine"})).unwrap();
    assert_eq!(kept.body, json!({"time": "mine"}));
    let back: Vec<_> = read(&dir.path().join("a/b"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(back, [record, kept]);
    assert_eq!(back[1].head(), log.head());
}

#[test]
fn a_record_at_the_bound_fits_and_one_byte_more_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), ORIGIN).unwrap();
    let around = r#"{"time":"","x":""}"#.len();
    log.append(&json!({"time": "", "x": "a".repeat(MAX_PAYLOAD - around)}))
        .unwrap();
    let head = log.head();
    let error = log
        .append(&json!({"time": "", "x": "a".repeat(MAX_PAYLOAD - around + 1)}))
        .unwrap_err();
    assert!(matches!(error, AuditError::TooLarge { bytes, max } if bytes == max + 1));
    assert!(matches!(
        log.append(&json!({"x": 0.5})),
        Err(AuditError::NotCanonical { .. })
    ));
    log.append(&json!({"n": 1})).unwrap();
    assert_eq!(verify(dir.path(), None, Some(&head)).unwrap().records, 2);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, _) = small_log(0);
    assert_eq!(
        std::fs::metadata(common::file(dir.path()))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
}
