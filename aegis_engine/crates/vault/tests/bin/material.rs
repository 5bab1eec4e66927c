//! What the crash tests store, and what their child process stores while it is killed.

use std::collections::BTreeSet;

use aegis_policy::{Class, DatasetFacts, RowIndex};
use aegis_vault::{Column, Dtype, Meta, Provider, RecordSchema, Result, Vault};
use uuid::Uuid;

pub fn key(byte: u8) -> Provider {
    Provider::raw(&[byte; 32]).expect("32 bytes")
}

/// Other bytes for every seed and number, and other lengths: one to four chunks of 4 KiB.
pub fn content(seed: u8, number: u8) -> Vec<u8> {
    let length = 1 + (u32::from(seed) * 331 + u32::from(number) * 4096) % 16_000;
    let byte = |n: u32| {
        n.to_le_bytes()[0]
            .wrapping_mul(seed | 1)
            .wrapping_add(number)
    };
    (0..length).map(byte).collect()
}

/// More than one chunk of 1 MiB.
#[allow(dead_code)] // each of the two programs that share this file uses some of it
pub fn large(seed: u8) -> Vec<u8> {
    vec![seed; (1 << 20) + 1000 * usize::from(seed)]
}

/// Ten records of eight bytes, each about another person: a data object and its governance rows.
pub fn store_records(vault: &Vault, name: &str, seed: u8) -> Result<Uuid> {
    let columns = vec![Column {
        name: "x".to_owned(),
        dtype: Dtype::U8,
        count: 8,
    }];
    let facts = DatasetFacts {
        purposes: BTreeSet::from(["research".to_owned()]),
        approved_columns: BTreeSet::from(["x".to_owned()]),
        columns: vec!["x".to_owned()],
        min_rows: 1,
        min_subjects: 1,
        require_dp: false,
        require_secure_aggregation: false,
        budget_micro_epsilon: 0,
        controller: "hospital".to_owned(),
        ..DatasetFacts::default()
    };
    let subjects = (0..10).map(|row| vault.pseudonym(&format!("person {row}")));
    let index = RowIndex {
        classes: vec![Class {
            basis: "consent".to_owned(),
            delete_after: None,
            special: false,
        }],
        class_of: vec![0; 10],
        subjects: subjects.collect::<Result<_>>()?,
    };
    let schema = RecordSchema { columns };
    vault.store_records(Meta::named(name), &schema, &[seed; 80], &index, &facts)
}
