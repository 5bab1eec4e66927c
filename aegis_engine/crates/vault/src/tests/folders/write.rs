//! How the golden folders were made.

use std::collections::BTreeSet;

use aegis_policy::{Class, DatasetFacts, RowIndex};
use aws_lc_rs::digest;

use super::*;
use crate::{Column, Dtype, RecordSchema};

/// Relative, so that the label in the keystore is the same everywhere; moved away at once.
const BACKUP: &str = "golden-backup.akb";

/// SHA-256 of name and counter, one block after the other.
fn stream(name: &str) -> Vec<u8> {
    (0..1000_u32)
        .flat_map(|n| {
            let mut input = name.as_bytes().to_vec();
            input.extend_from_slice(&n.to_le_bytes());
            digest::digest(&digest::SHA256, &input).as_ref().to_vec()
        })
        .collect()
}

fn put(vault: &Vault, data: &[u8], log2: u8, meta: Meta) -> Uuid {
    let mut writer = vault.writer_chunked(meta, log2).unwrap();
    writer.append(data).unwrap();
    writer.finish().unwrap()
}

fn about(name: &str, subject: Option<&str>) -> Meta {
    Meta {
        name: name.into(),
        media_type: "text/csv".into(),
        subject: subject.map(str::to_owned),
        attrs: [
            ("hospital".to_owned(), "Universitätsklinikum".to_owned()),
            ("z".to_owned(), String::new()),
        ]
        .into(),
    }
}

fn build_key(path: &Path, backup: &Path) -> (Vault, Contents) {
    let vault = Vault::create(path, &key()).unwrap();
    let mut contents = Contents::new();
    for (name, len, log2) in [
        ("empty", 0, 12),
        ("one byte", 1, 12),
        ("one chunk", 4096, 12),
        ("one chunk and a byte", 4097, 12),
        ("several chunks", 3 * 4096 + 5, 12),
        ("two whole chunks of 16 KiB", 32768, 14),
        ("default chunk", 700, 20),
    ] {
        let data = noise(len);
        contents.insert(put(&vault, &data, log2, Meta::named(name)), data);
    }
    for (name, subject) in [
        ("Müller – 測定 🩺.csv", Some("patient-7")),
        ("second of the subject", Some("patient-7")),
        ("about nobody", None),
    ] {
        let data = name.as_bytes().repeat(3);
        contents.insert(put(&vault, &data, 13, about(name, subject)), data);
    }
    let renamed = put(&vault, b"renamed", 12, Meta::named("before"));
    contents.insert(renamed, b"renamed".to_vec());
    let gone = put(&vault, b"gone", 12, about("gone", Some("patient-8")));
    vault
        .backup_keystore(Path::new(BACKUP), &words(RECOVERY))
        .unwrap();
    fs::rename(BACKUP, backup).unwrap();
    vault.shred(gone, None).unwrap();
    // What is behind the base.
    let late = put(&vault, b"late", 12, about("late", Some("patient-7")));
    contents.insert(late, b"late".to_vec());
    vault.rename(renamed, "nachher – après.csv").unwrap();
    vault.commit_head("ledger/ä", 3, [0x07; 32]).unwrap();
    vault.commit_head("ledger/ä", 4, [0x08; 32]).unwrap();
    (vault, contents)
}

fn schema() -> RecordSchema {
    let column = |name: &str, dtype, count| Column {
        name: name.to_owned(),
        dtype,
        count,
    };
    RecordSchema {
        columns: vec![
            column("id", Dtype::I64, 1),
            column("label", Dtype::U8, 1),
            column("values", Dtype::F32, 3),
        ],
    }
}

pub(super) fn index(vault: &Vault) -> RowIndex {
    let class = |basis: &str, delete_after, special| Class {
        basis: basis.to_owned(),
        delete_after,
        special,
    };
    RowIndex {
        classes: vec![
            class("consent", Some(20_000), true),
            class("legitimate_interests", None, false),
        ],
        class_of: vec![0, 1, 0, 0, 1],
        subjects: ["a", "b", "a", "c", "d"]
            .map(|person| vault.pseudonym(person).unwrap())
            .to_vec(),
    }
}

pub(super) fn facts() -> DatasetFacts {
    DatasetFacts {
        purposes: BTreeSet::from(["research".to_owned()]),
        approved_columns: BTreeSet::from(["label".to_owned(), "values".to_owned()]),
        columns: vec!["id".into(), "label".into(), "values".into()],
        min_rows: 2,
        min_subjects: 2,
        require_dp: true,
        require_secure_aggregation: false,
        budget_micro_epsilon: 3_000_000,
        controller: "hospital".to_owned(),
        ..DatasetFacts::default()
    }
}

fn build_passphrase(path: &Path) -> (Vault, Contents) {
    let vault = Vault::create(path, &words(PASSPHRASE)).unwrap();
    let schema = schema();
    let index = index(&vault);
    let facts = facts();
    let data = noise(schema.record_len() * 5);
    let meta = about("records", None);
    let id = vault
        .store_records(meta, &schema, &data, &index, &facts)
        .unwrap();
    let mut contents = Contents::from([(id, data)]);
    let plain = put(&vault, b"beside the records", 12, Meta::named("plain"));
    contents.insert(plain, b"beside the records".to_vec());
    // Governed by a bundle that nobody has: the format knows only its hash.
    let mut exclusive = vault.inner.exclusive().unwrap();
    exclusive.delta.bundle = Some([0xb0; 32]);
    exclusive.ratchet().unwrap();
    exclusive.done().unwrap();
    (vault, contents)
}

/// Builds both folders under `root`. The clock of the audit log is not fixed: it is not part of this format.
fn build(root: &Path) -> Vec<(&'static str, Vault, Contents)> {
    let fixed = fix(&stream("key"), AT);
    let (first, of_first) = build_key(&root.join("key"), &root.join("key.akb"));
    drop(fixed);
    let fixed = fix(&stream("passphrase"), AT);
    let (second, of_second) = build_passphrase(&root.join("passphrase"));
    drop(fixed);
    vec![("key", first, of_first), ("passphrase", second, of_second)]
}

#[test]
#[ignore = "writes the frozen folders, which never change again; only where there are none"]
fn write_the_golden_folders() {
    let root = golden(2);
    assert!(!root.exists(), "version 2 is frozen");
    fs::create_dir(&root).unwrap();
    for (name, vault, contents) in build(&root) {
        let mut text = serde_json::to_string_pretty(&describe(&vault, &contents)).unwrap();
        text.push('\n');
        fs::write(root.join(name).with_extension("json"), text).unwrap();
        fs::remove_file(root.join(name).join("lock")).unwrap();
        fs::remove_dir(root.join(name).join("journal")).unwrap();
        let _ = fs::remove_file(root.join(name).join("consent/lock"));
    }
}
