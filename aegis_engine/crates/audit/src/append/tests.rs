use super::*;
use crate::verify;

#[test]
fn a_failed_sync_ends_all_appends_until_the_log_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), "test").unwrap();
    log.append(&json!({"n": 0})).unwrap();
    let head = log.head();
    log.sync = |_| Err(io::Error::other("the disk is gone"));
    assert!(matches!(
        log.append(&json!({"n": 1})),
        Err(AuditError::Unavailable { .. })
    ));
    log.sync = File::sync_data;
    assert!(matches!(
        log.append(&json!({"n": 2})),
        Err(AuditError::Unavailable { .. })
    ));
    assert_eq!(
        log.head(),
        head,
        "a record that may not be durable is not counted"
    );
    let again = Log::open(dir.path(), "test").unwrap();
    again.append(&json!({"n": 3})).unwrap();
    verify(dir.path(), Some("test"), Some(&head)).unwrap();
}

#[test]
fn a_record_returns_only_after_the_sync() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SYNCS: AtomicU64 = AtomicU64::new(0);
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), "test").unwrap();
    log.sync = |file| {
        SYNCS.fetch_add(1, Ordering::SeqCst);
        file.sync_data()
    };
    for n in 1..=3_u64 {
        log.append(&json!({"n": n})).unwrap();
        assert_eq!(SYNCS.load(Ordering::SeqCst), n);
    }
}
