//! Row sets, the row index and its encoding.

use proptest::prelude::*;

use std::collections::BTreeSet;

use super::facts;
use crate::rows::{BASES, MAGIC};
use crate::*;

proptest! {
    #[test]
    fn row_set_is_the_set_of_its_rows(rows in prop::collection::vec(0_u32..5000, 0..300), sparse: bool) {
        let rows: Vec<u32> = rows.into_iter().map(|r| if sparse { r * 800_000 } else { r }).collect();
        let set: RowSet = rows.iter().copied().collect();
        let want: BTreeSet<u32> = rows.iter().copied().collect();
        prop_assert_eq!(set.len(), want.len() as u64);
        prop_assert!(set.iter().eq(want.iter().copied()));
        for row in rows.iter().flat_map(|r| [*r, r ^ 1]) {
            prop_assert_eq!(set.contains(row), want.contains(&row));
        }
        for (k, row) in want.iter().enumerate() {
            prop_assert_eq!(set.nth(k as u64), Some(*row));
        }
        prop_assert_eq!(set.nth(set.len()), None);
    }

    #[test]
    fn index_survives_encoding(rows in prop::collection::vec((0_u16..6, any::<[u8; 16]>()), 0..50), day: Option<u32>) {
        let index = sample(&rows, day);
        prop_assert_eq!(RowIndex::decode(&index.encode().unwrap()).unwrap(), index);
    }

    #[test]
    fn decode_never_panics_and_accepts_only_what_encode_writes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut with_magic = MAGIC.to_vec();
        with_magic.extend_from_slice(&bytes);
        if let Ok(index) = RowIndex::decode(&with_magic) {
            prop_assert_eq!(index.encode().unwrap(), with_magic);
        }
    }
}

fn sample(rows: &[(u16, Subject)], day: Option<u32>) -> RowIndex {
    RowIndex {
        classes: BASES
            .iter()
            .enumerate()
            .map(|(i, b)| Class {
                basis: (*b).into(),
                delete_after: day,
                special: i % 2 == 0,
            })
            .collect(),
        class_of: rows.iter().map(|r| r.0).collect(),
        subjects: rows.iter().map(|r| r.1).collect(),
    }
}

#[test]
fn decode_refuses_truncation_trailing_bytes_and_other_encodings() {
    let bytes = sample(&[(0, [1; 16]), (5, [2; 16])], Some(20_000))
        .encode()
        .unwrap();
    for cut in 0..bytes.len() {
        assert!(RowIndex::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(RowIndex::decode(&longer).is_err());
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x80;
        // Whatever decodes encodes to the same bytes: no two encodings of one index.
        if let Ok(index) = RowIndex::decode(&other) {
            assert_eq!(index.encode().unwrap(), other, "byte {at}");
        }
    }
}

#[test]
fn decode_takes_no_memory_for_rows_that_are_not_there() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(RowIndex::decode(&bytes).is_err());
}

#[test]
fn hashes_differ_when_rows_or_facts_differ() {
    let set = |rows: &[u32]| rows.iter().copied().collect::<RowSet>().hash();
    assert_eq!(set(&[3, 1, 1]), set(&[1, 3]));
    assert_ne!(set(&[1]), set(&[2]));
    let facts = facts();
    let weaker = DatasetFacts {
        require_dp: false,
        ..facts.clone()
    };
    assert_ne!(facts.hash(), weaker.hash());
    let moved = DatasetFacts {
        columns: vec!["agepulse".into(), "name".into()],
        ..facts.clone()
    };
    assert_ne!(facts.hash(), moved.hash());
}
