//! One order of records, whoever appends.

mod common;

use std::collections::BTreeSet;
use std::env;
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use aegis_audit::{Log, read, verify};
use common::ORIGIN;
use serde_json::json;

const EACH: u64 = 25;

#[test]
fn threads_and_two_handles_append_into_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let start = Barrier::new(2);
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..2_u64)
            .map(|handle| {
                let (dir, start) = (dir.path(), &start);
                scope.spawn(move || {
                    start.wait();
                    // Both create the log at once, too.
                    let log = Log::open(dir, ORIGIN).unwrap();
                    thread::scope(|scope| {
                        let threads: Vec<_> = (0..3_u64)
                            .map(|thread| {
                                let log = &log;
                                scope.spawn(move || {
                                    (0..EACH)
                                        .map(|n| log.append(&json!({"handle": handle, "thread": thread, "n": n})).unwrap())
                                        .collect::<Vec<_>>()
                                })
                            })
                            .collect();
                        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
                    })
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap())
            .collect()
    });
    let report = verify(dir.path(), Some(ORIGIN), None).unwrap();
    assert_eq!(report.records, 2 * 3 * EACH);
    let written: Vec<_> = read(dir.path()).unwrap().map(Result::unwrap).collect();
    for record in &acknowledged {
        assert_eq!(
            &written[usize::try_from(record.seq).unwrap()],
            record,
            "an acknowledged record is where it said"
        );
    }
    assert_eq!(
        acknowledged
            .iter()
            .map(|record| record.seq)
            .collect::<BTreeSet<_>>()
            .len(),
        acknowledged.len()
    );
}

#[test]
fn reading_beside_an_appender_sees_whole_records_only() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), ORIGIN).unwrap();
    thread::scope(|scope| {
        let appender = scope.spawn(|| {
            for n in 0..100 {
                log.append(&json!({"n": n, "pad": "x".repeat(20_000)}))
                    .unwrap();
            }
        });
        let mut seen = log.head();
        while !appender.is_finished() {
            seen = verify(dir.path(), None, Some(&seen)).unwrap().head;
        }
    });
    assert_eq!(
        verify(dir.path(), None, Some(&log.head())).unwrap().records,
        100
    );
}

const CHILD: &str = "AEGIS_AUDIT_TEST_DIR";

/// Not a test of its own: the process that the test below kills.
#[test]
fn child_appends_until_killed() {
    let Some(dir) = env::var_os(CHILD) else {
        return;
    };
    let dir: &std::path::Path = dir.as_ref();
    let log = Log::open(dir, ORIGIN).unwrap();
    for n in 0_u64.. {
        let record = log
            .append(&json!({"n": n, "pad": "x".repeat(5_000)}))
            .unwrap();
        println!("\nacknowledged {}", record.head());
    }
}

#[test]
fn what_was_acknowledged_before_kill_9_is_in_the_log() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut newest = None;
    for round in 1..=8 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_appends_until_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let mut heads = lines.filter_map(|line| {
            line.strip_prefix("acknowledged ")
                .map(|head| head.parse().unwrap())
        });
        newest = heads.by_ref().nth(round);
        child.kill().unwrap();
        // What was already in the pipe was acknowledged as well.
        newest = heads.last().or(newest);
        child.wait().unwrap();
        let log = Log::open(dir.path(), ORIGIN).unwrap();
        verify(dir.path(), Some(ORIGIN), newest.as_ref()).unwrap();
        assert!(log.head().seq >= newest.unwrap().seq);
    }
    assert!(newest.is_some());
}

#[test]
fn the_newest_head_has_what_another_handle_appended() {
    let dir = tempfile::tempdir().unwrap();
    let one = Log::open(dir.path(), ORIGIN).unwrap();
    let other = Log::open(dir.path(), ORIGIN).unwrap();
    let record = other.append(&json!({"n": 1})).unwrap();
    assert_eq!(one.head().seq, 0, "the handle itself has not looked");
    assert_eq!(one.newest().unwrap(), record.head());
    assert_eq!(one.head(), record.head());
}
