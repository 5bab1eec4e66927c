//! Version 1 never changes: whole vault folders, made from fixed bytes at a fixed time.
//!
//! `vectors/golden/<name>` is a vault folder, `<name>.json` what is in it, `key.akb` a keystore backup of the first. They
//! were written once by [`write_the_golden_folders`]; `tests/vault/decoder.py` reads them by another implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use aegis_policy::{Class, DatasetFacts, RowIndex};
use aws_lc_rs::digest;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::auth::Auth;
use crate::envelope::{self, Form};
use crate::files;
use crate::outside::{self, fix};
use crate::provider::Passphrase;
use crate::vault::{State, hex};
use crate::{Column, Dtype, RecordSchema, VaultError};

const AT: u64 = 1_767_225_600; // 2026-01-01
const PASSPHRASE: &str = "correct horse battery staple";
const RECOVERY: &str = "recovery words in the safe";
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

fn key() -> Provider {
    Provider::raw(&(0..32).collect::<Vec<u8>>()).unwrap()
}

fn words(text: &str) -> Provider {
    Provider::new(Passphrase::new(Zeroizing::new(text.into())).unwrap())
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/golden")
}

/// A copy that may be changed. Git keeps no empty folders and no modes.
fn copy(name: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    copy_tree(&golden().join(name), &path);
    files::create_dir(&path.join("journal")).unwrap();
    (dir, path)
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

/// The plaintext of every object.
type Contents = BTreeMap<Uuid, Vec<u8>>;

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
    vault.rename(renamed, "nachher – après.csv").unwrap();
    contents.insert(renamed, b"renamed".to_vec());
    let gone = put(&vault, b"gone", 12, about("gone", Some("patient-8")));
    vault
        .backup_keystore(Path::new(BACKUP), &words(RECOVERY))
        .unwrap();
    fs::rename(BACKUP, backup).unwrap();
    vault.shred(gone, None).unwrap();
    (vault, contents)
}

fn build_passphrase(path: &Path) -> (Vault, Contents) {
    let vault = Vault::create(path, &words(PASSPHRASE)).unwrap();
    let column = |name: &str, dtype, count| Column {
        name: name.to_owned(),
        dtype,
        count,
    };
    let schema = RecordSchema {
        columns: vec![
            column("id", Dtype::I64, 1),
            column("label", Dtype::U8, 1),
            column("values", Dtype::F32, 3),
        ],
    };
    let class = |basis: &str, delete_after, special| Class {
        basis: basis.to_owned(),
        delete_after,
        special,
    };
    let index = RowIndex {
        classes: vec![
            class("consent", Some(20_000), true),
            class("legitimate_interests", None, false),
        ],
        class_of: vec![0, 1, 0, 0, 1],
        subjects: ["a", "b", "a", "c", "d"]
            .map(|person| vault.pseudonym(person).unwrap())
            .to_vec(),
    };
    let facts = DatasetFacts {
        purposes: BTreeSet::from(["research".to_owned()]),
        approved_columns: BTreeSet::from(["label".to_owned(), "values".to_owned()]),
        columns: vec!["id".into(), "label".into(), "values".into()],
        min_rows: 2,
        min_subjects: 2,
        require_dp: true,
        require_secure_aggregation: false,
        budget_micro_epsilon: 3_000_000,
        controller: "hospital".to_owned(),
    };
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
    exclusive.body.bundle = Some([0xb0; 32]);
    exclusive.ratchet().unwrap();
    exclusive.done().unwrap();
    (vault, contents)
}

/// What another implementation must find.
fn describe(vault: &Vault, contents: &Contents) -> Value {
    let state = vault.inner.current().unwrap();
    let objects: Vec<Value> = state
        .body
        .records()
        .map(|record| {
            let info = vault.inner.describe(&state.body, record).unwrap();
            let sha256 = contents
                .get(&info.id)
                .map(|data| hex(digest::digest(&digest::SHA256, data).as_ref()));
            json!({
                "id": info.id, "name": info.name, "media_type": info.media_type, "subject": info.subject,
                "attrs": info.attrs, "created": info.created, "bytes": info.bytes, "chunks": info.chunks,
                "chunk_bytes": info.chunk_bytes, "rows": record.rows, "sha256": sha256,
            })
        })
        .collect();
    let shredded: Vec<Uuid> = state
        .body
        .entries
        .keys()
        .filter(|id| state.body.live(**id).is_err())
        .copied()
        .collect();
    let fixed = fix(&[0x33; 32], AT);
    let blob = vault.seal_blob("aegis/test", b"aad", b"plain").unwrap();
    drop(fixed);
    json!({
        "vault": vault.id(), "epoch": state.epoch, "generation": state.generation,
        "bundle": state.body.bundle.map(|hash| hex(&hash)),
        "objects": objects, "shredded": shredded, "copies": state.body.copies,
        "pseudonym of ä": hex(&vault.pseudonym("ä").unwrap()),
        "mac of data in aegis/test": hex(&vault.mac("aegis/test", b"data").unwrap()),
        "blob in aegis/test, aad, plain": hex(&blob),
    })
}

/// Builds both folders under `root`. The clock of the audit log is not fixed: it is not part of this format.
fn build(root: &Path) -> Vec<(&'static str, Vault, Contents)> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = fs::remove_file(BACKUP);
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
    let root = golden();
    assert!(!root.exists(), "version 1 is frozen");
    fs::create_dir(&root).unwrap();
    for (name, vault, contents) in build(&root) {
        let mut text = serde_json::to_string_pretty(&describe(&vault, &contents)).unwrap();
        text.push('\n');
        fs::write(root.join(name).with_extension("json"), text).unwrap();
        fs::remove_file(root.join(name).join("lock")).unwrap();
        let _ = fs::remove_file(root.join(name).join("consent/lock"));
    }
}

fn object_files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for shard in fs::read_dir(root.join("objects")).unwrap() {
        for file in fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            all.insert(name, fs::read(path).unwrap());
        }
    }
    all
}

/// Equal but for the audit head in the body and the tag over it: the audit log has the real time.
fn same_keystore(a: &[u8], b: &[u8]) {
    let params = u32::from_le_bytes(a[48..52].try_into().unwrap()) as usize;
    let head = 252 + params + 1 + 32 + 33;
    assert_eq!(a.len(), b.len());
    assert_eq!(a[..head], b[..head]);
    assert_eq!(a[head + 40..a.len() - 16], b[head + 40..b.len() - 16]);
}

#[test]
fn this_code_still_writes_the_golden_folders() {
    let dir = tempfile::tempdir().unwrap();
    for (name, vault, _) in build(dir.path()) {
        let (old, new) = (golden().join(name), vault.path());
        assert_eq!(object_files(&old), object_files(new), "{name}");
        for file in ["epoch.key", "vault.json"] {
            let read = |root: &Path| fs::read(root.join(file)).unwrap();
            assert_eq!(read(&old), read(new), "{name}/{file}");
        }
        let read = |root: &Path| fs::read(root.join("keystore.akv")).unwrap();
        same_keystore(&read(&old), &read(new));
    }
    let read = |root: &Path| fs::read(root.join("key.akb")).unwrap();
    same_keystore(&read(&golden()), &read(dir.path()));
}

#[test]
fn the_golden_keystores_are_sealed_again_to_the_byte() {
    for (name, provider) in [("key", key()), ("passphrase", words(PASSPHRASE))] {
        let (_dir, path) = copy(name);
        let layout = Layout::new(&path);
        let id = crate::layout::About::read(&layout).unwrap().id;
        let (bytes, about) = crate::vault::keystore(&layout, id).unwrap();
        let auth = Arc::new(Auth::of(&about, &provider, &path).unwrap());
        let (State { body, .. }, _) = State::load(&layout, id, &auth).unwrap();
        let secret = auth.epoch_key(&layout, id, about.epoch).unwrap();
        let root = auth.root(id, &secret).unwrap();
        // What `seal` draws: salt, epoch key, nonce. The epoch key is what the wrapped one opens to.
        let mut drawn = bytes[120..152].to_vec();
        drawn.extend_from_slice(
            envelope::epoch_key(&bytes, Form::Keystore, &root)
                .unwrap()
                .expose(),
        );
        drawn.extend_from_slice(&bytes[232..244]);
        let _fixed = outside::fix(&drawn, AT);
        assert!(
            envelope::seal(&about, &root, &body).unwrap() == bytes,
            "{name}"
        );
    }
}

#[test]
fn this_code_still_opens_the_golden_folders() {
    let built = tempfile::tempdir().unwrap();
    for (name, fresh, contents) in build(built.path()) {
        let provider = if name == "key" {
            key()
        } else {
            words(PASSPHRASE)
        };
        let (_dir, path) = copy(name);
        let vault = Vault::open(&path, &provider).unwrap();
        let expected: Value =
            serde_json::from_slice(&fs::read(golden().join(name).with_extension("json")).unwrap())
                .unwrap();
        assert_eq!(describe(&vault, &contents), expected, "{name}");
        for (id, data) in &contents {
            vault.verify(*id).unwrap();
            if vault.bundle_hash().unwrap().is_none() {
                assert_eq!(&super::load(&vault, *id).unwrap(), data, "{id}");
            }
        }
        for id in expected["shredded"].as_array().unwrap() {
            let id = id.as_str().unwrap().parse().unwrap();
            assert!(matches!(
                vault.stat(id),
                Err(VaultError::ObjectShredded { when: AT, .. })
            ));
        }
        for (id, rows) in contents
            .keys()
            .filter_map(|id| Some((id, vault.dataset(*id).ok()?)))
        {
            let again = fresh.dataset(*id).unwrap();
            assert_eq!((rows.facts, rows.index), (again.facts, again.index));
        }
    }
}

#[test]
fn the_golden_backup_still_restores_and_what_was_shredded_stays_shredded() {
    let (_dir, path) = copy("key");
    fs::remove_file(path.join("keystore.akv")).unwrap();
    fs::remove_file(path.join("epoch.key")).unwrap();
    let backup = golden().join("key.akb");
    let vault = Vault::restore_keystore(&path, &backup, &words(RECOVERY), &key()).unwrap();
    let expected: Value =
        serde_json::from_slice(&fs::read(golden().join("key.json")).unwrap()).unwrap();
    assert_eq!(
        vault.list().unwrap().len(),
        expected["objects"].as_array().unwrap().len()
    );
    for info in vault.list().unwrap() {
        vault.verify(info.id).unwrap();
    }
    let gone = expected["shredded"][0].as_str().unwrap().parse().unwrap();
    assert!(matches!(
        vault.stat(gone),
        Err(VaultError::ObjectShredded { .. })
    ));
}
