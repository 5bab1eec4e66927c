//! Whoever edits the log is found.

mod common;

use aegis_audit::{AuditError, Head, Log, read, read_from, verify};
use common::{FRAME, HEADER, ORIGIN, boundaries, bytes, file, put, small_log};
use proptest::prelude::*;
use serde_json::json;

/// The number of the record that a byte of the file belongs to (the header counts as 0).
fn record_of(boundaries: &[usize], at: usize) -> u64 {
    boundaries
        .iter()
        .skip(1)
        .take_while(|end| **end <= at)
        .count() as u64
}

#[test]
fn every_changed_byte_is_found_and_its_record_named() {
    let (dir, _) = small_log(4);
    let good = bytes(dir.path());
    let boundaries = boundaries(&good);
    for at in 0..good.len() {
        for mask in [0x01, 0x20, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            put(dir.path(), &bad);
            for result in [
                verify(dir.path(), None, None).map(|_| ()),
                Log::open(dir.path(), ORIGIN).map(|_| ()),
            ] {
                match result {
                    Err(AuditError::Tampered { seq, offset, .. }) => {
                        assert_eq!(seq, record_of(&boundaries, at), "byte {at}");
                        assert!(offset <= at as u64);
                    }
                    other => panic!("byte {at} mask {mask:#x}: {other:?}"),
                }
            }
            assert_eq!(bytes(dir.path()), bad, "tampering is never repaired");
        }
    }
}

#[test]
fn every_byte_set_to_zero_is_found() {
    let (dir, _) = small_log(3);
    let good = bytes(dir.path());
    for at in (0..good.len()).filter(|at| good[*at] != 0) {
        let mut bad = good.clone();
        bad[at] = 0;
        put(dir.path(), &bad);
        let error = verify(dir.path(), None, None).unwrap_err();
        assert!(
            matches!(error, AuditError::Tampered { .. } | AuditError::Torn { .. }),
            "byte {at}: {error}"
        );
    }
}

#[test]
fn every_truncation_is_found() {
    let (dir, heads) = small_log(4);
    let good = bytes(dir.path());
    let boundaries = boundaries(&good);
    let newest = *heads.last().unwrap();
    for length in 0..good.len() {
        put(dir.path(), &good[..length]);
        let plain = verify(dir.path(), Some(ORIGIN), None);
        let remembered = verify(dir.path(), Some(ORIGIN), Some(&newest)).unwrap_err();
        match boundaries.iter().position(|end| *end == length) {
            // A prefix is a valid chain: only a head kept elsewhere tells.
            Some(records) => {
                assert_eq!(plain.unwrap().head, heads[records]);
                assert!(
                    matches!(remembered, AuditError::Rollback { expected, found, .. } if expected == newest && found == heads[records])
                );
            }
            None if length < HEADER => {
                assert!(
                    matches!(
                        plain,
                        Err(AuditError::Tampered {
                            seq: 0,
                            offset: 0,
                            ..
                        })
                    ),
                    "{length}"
                );
            }
            None => {
                let records = boundaries.iter().take_while(|end| **end < length).count() - 1;
                let Err(AuditError::Torn {
                    seq, offset, bytes, ..
                }) = plain
                else {
                    panic!("{length}: {plain:?}")
                };
                assert_eq!(
                    (seq, offset, bytes),
                    (
                        records as u64,
                        boundaries[records] as u64,
                        (length - boundaries[records]) as u64
                    )
                );
            }
        }
    }
}

#[test]
fn any_earlier_head_lies_in_the_chain() {
    let (dir, heads) = small_log(4);
    for head in &heads {
        let report = verify(dir.path(), Some(ORIGIN), Some(head)).unwrap();
        assert_eq!(
            (report.records, report.head, report.bytes),
            (4, heads[4], bytes(dir.path()).len() as u64)
        );
    }
    let other = Head {
        hash: [7; 32],
        ..heads[2]
    };
    let error = verify(dir.path(), None, Some(&other)).unwrap_err();
    assert!(
        matches!(error, AuditError::Rollback { expected, found, .. } if expected == other && found == heads[2])
    );
}

/// Changes the payload of record `index` and makes its sums right again, as a forger would.
fn forge(log: &mut [u8], index: usize) {
    let at = boundaries(log)[index];
    let length = u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
    let digit = log[at + FRAME..at + FRAME + length]
        .windows(4)
        .position(|part| part == b"\"n\":")
        .unwrap()
        + at
        + FRAME
        + 4;
    log[digit] = b'9';
    let payload = crc32c(&log[at + FRAME..at + FRAME + length]);
    log[at + 48..at + 52].copy_from_slice(&payload.to_le_bytes());
    let header = crc32c(&log[at..at + 52]);
    log[at + 52..at + 56].copy_from_slice(&header.to_le_bytes());
}

/// Bitwise CRC32C, apart from the crate under test.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            crc >> 1 ^ 0x82f6_3b78
        } else {
            crc >> 1
        }
    };
    !data
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn a_forged_record_with_right_sums_breaks_the_chain_behind_it() {
    let (dir, heads) = small_log(4);
    let good = bytes(dir.path());
    for index in 0..4 {
        let mut bad = good.clone();
        forge(&mut bad, index);
        put(dir.path(), &bad);
        match verify(dir.path(), None, None) {
            Err(AuditError::Tampered { seq, .. }) => assert_eq!(seq, index as u64 + 1),
            // Nothing follows the last record: a remembered head finds it.
            Ok(_) => {
                assert_eq!(index, 3);
                let error = verify(dir.path(), None, Some(&heads[4])).unwrap_err();
                assert!(
                    matches!(error, AuditError::Rollback { expected, .. } if expected == heads[4])
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn removed_repeated_and_swapped_records_are_found() {
    let (dir, _) = small_log(4);
    let good = bytes(dir.path());
    let at = boundaries(&good);
    let part = |i: usize| &good[at[i]..at[i + 1]];
    let head = &good[..HEADER];
    for (records, first_bad) in [
        (vec![1, 2, 3], 0),
        (vec![0, 2, 3], 1),
        (vec![0, 0, 1], 1),
        (vec![0, 2, 1, 3], 1),
        (vec![0, 1, 3], 2),
    ] {
        let bad: Vec<u8> = head
            .iter()
            .chain(records.iter().flat_map(|i| part(*i)))
            .copied()
            .collect();
        put(dir.path(), &bad);
        let error = verify(dir.path(), None, None).unwrap_err();
        assert!(
            matches!(error, AuditError::Tampered { seq, .. } if seq == first_bad),
            "{records:?}: {error}"
        );
    }
}

#[test]
fn records_of_another_log_do_not_fit() {
    let (dir, _) = small_log(2);
    let other = tempfile::tempdir().unwrap();
    let log = Log::open(other.path(), "another vault").unwrap();
    log.append(&json!({"event": "test"})).unwrap();
    let mut mixed = bytes(dir.path())[..HEADER].to_vec();
    mixed.extend(&bytes(other.path())[HEADER..]);
    put(dir.path(), &mixed);
    assert!(matches!(
        verify(dir.path(), None, None),
        Err(AuditError::Tampered { seq: 0, .. })
    ));
}

#[test]
fn a_log_of_another_origin_is_refused() {
    let (dir, _) = small_log(1);
    assert!(matches!(
        verify(dir.path(), Some("another vault"), None),
        Err(AuditError::WrongOrigin { .. })
    ));
    assert!(matches!(
        Log::open(dir.path(), "another vault"),
        Err(AuditError::WrongOrigin { .. })
    ));
    assert!(verify(dir.path(), None, None).is_ok());
}

#[test]
fn a_log_that_shrinks_or_vanishes_while_open_takes_no_records() {
    let (dir, _) = small_log(3);
    let log = Log::open(dir.path(), ORIGIN).unwrap();
    let good = bytes(dir.path());
    std::fs::OpenOptions::new()
        .write(true)
        .open(file(dir.path()))
        .unwrap()
        .set_len(boundaries(&good)[2] as u64)
        .unwrap();
    assert!(matches!(
        log.append(&json!({"n": 9})),
        Err(AuditError::Tampered { seq: 3, .. })
    ));
    std::fs::remove_file(file(dir.path())).unwrap();
    assert!(matches!(
        log.append(&json!({"n": 9})),
        Err(AuditError::Unavailable { .. })
    ));
    put(dir.path(), &good);
    assert!(
        matches!(
            log.append(&json!({"n": 9})),
            Err(AuditError::Unavailable { .. })
        ),
        "another file under the same name"
    );
}

#[test]
fn reading_stops_at_the_first_bad_record_and_names_it() {
    let (dir, heads) = small_log(4);
    let mut bad = bytes(dir.path());
    let third = boundaries(&bad)[2] + FRAME + 3;
    bad[third] ^= 1;
    put(dir.path(), &bad);
    let mut records = read(dir.path()).unwrap();
    for (n, head) in heads[1..3].iter().enumerate() {
        let record = records.next().unwrap().unwrap();
        assert_eq!(
            (record.seq, record.head(), &record.body["n"]),
            (n as u64, *head, &json!(n))
        );
    }
    assert!(matches!(
        records.next(),
        Some(Err(AuditError::Tampered { seq: 2, .. }))
    ));
    assert!(records.next().is_none());
}

#[test]
fn reading_goes_on_from_a_cursor_and_notices_a_shorter_log() {
    let (dir, heads) = small_log(2);
    let mut records = read(dir.path()).unwrap();
    assert_eq!(records.by_ref().count(), 2);
    let cursor = records.cursor();
    assert_eq!(cursor.head(), heads[2]);
    let log = Log::open(dir.path(), ORIGIN).unwrap();
    log.append(&json!({"event": "more"})).unwrap();
    let more: Vec<_> = read_from(dir.path(), cursor)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        (more.len(), more[0].seq, &more[0].body["event"]),
        (1, 2, &json!("more"))
    );
    let good = bytes(dir.path());
    put(dir.path(), &good[..boundaries(&good)[1]]);
    let error = read_from(dir.path(), cursor).err().unwrap();
    assert!(
        matches!(error, AuditError::Rollback { expected, found, .. } if expected == heads[2] && found == heads[1])
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_verifies_and_never_panics(tail in proptest::collection::vec(any::<u8>(), 1..300), cut in 0_usize..3) {
        let (dir, _) = small_log(3);
        let good = bytes(dir.path());
        let mut bad = good[..boundaries(&good)[cut]].to_vec();
        bad.extend(tail);
        put(dir.path(), &bad);
        prop_assert!(verify(dir.path(), None, None).is_err());
        prop_assert!(read(dir.path()).unwrap().any(|record| record.is_err()));
    }
}
