//! Versions 1 and 2 never change: whole vault folders, made from fixed bytes at a fixed time. Keystores of version 1 are
//! read, and written anew as version 2 by the first commit.
//!
//! The order in which a store draws its bytes is not part of the format: objects are written again from the salts and keys
//! the folders hold, keystores from theirs.
//!
//! In `tests/vectors/vault/`, `golden/<name>` (version 1) and `golden2/<name>` are vault folders, `<name>.json` what is in it,
//! `key.akb` a keystore backup of the first. They were written once by `folders/write.rs`; `tests/reference/vault_decoder.py`
//! reads them by another implementation.

mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws_lc_rs::digest;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::format::changes::{Next, Scratch};
use crate::format::envelope::{self, Form};
use crate::format::header::TAG;
use crate::format::keystore::{Body, Delta, KeyRecord, Kind};
use crate::format::meta::Sealed;
use crate::format::paths::About;
use crate::keys::auth::Auth;
use crate::keys::epoch::EpochKey;
use crate::keys::provider::Passphrase;
use crate::object::draft::ObjectRandomness;
use crate::object::file::ObjectFile;
use crate::object::keys;
use crate::object::writer::ObjectWriter;
use crate::secret::Secret;
use crate::system::clock::fix;
use crate::vault::{Inner, hex};
use crate::{LogTrust, VaultError};

const AT: u64 = 1_767_225_600; // 2026-01-01
const PASSPHRASE: &str = "correct horse battery staple";
const RECOVERY: &str = "recovery words in the safe";

fn key() -> Provider {
    Provider::raw(&(0..32).collect::<Vec<u8>>()).unwrap()
}

fn words(text: &str) -> Provider {
    Provider::new(Passphrase::new(Zeroizing::new(text.into())).unwrap())
}

fn golden(version: u16) -> PathBuf {
    let folder = ["golden", "golden2"][usize::from(version - 1)];
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../tests/vectors/vault")
        .join(folder)
}

/// Every golden folder and what opens it.
fn all() -> Vec<(u16, &'static str, Provider)> {
    [1, 2]
        .into_iter()
        .flat_map(|version| {
            [
                (version, "key", key()),
                (version, "passphrase", words(PASSPHRASE)),
            ]
        })
        .collect()
}

/// A copy that may be changed. Git keeps no empty folders and no modes: `journal/` is not there.
fn copy(version: u16, name: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    copy_tree(&golden(version).join(name), &path);
    (dir, path)
}

/// The plaintext of every object.
type Contents = BTreeMap<Uuid, Vec<u8>>;

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
    let heads: BTreeMap<&String, (u64, String)> = state
        .body
        .heads
        .iter()
        .map(|(name, head)| (name, (head.count, hex(&head.mac))))
        .collect();
    let fixed = fix(&[0x33; 32], AT);
    let blob = vault.seal_blob("aegis/test", b"aad", b"plain").unwrap();
    drop(fixed);
    json!({
        "vault": vault.id(), "epoch": state.epoch, "generation": state.generation,
        "bundle": state.body.bundle.map(|hash| hex(&hash)),
        "heads": heads,
        "objects": objects, "shredded": shredded, "copies": state.body.copies,
        "pseudonym of ä": hex(&vault.pseudonym("ä").unwrap()),
        "mac of data in aegis/test": hex(&vault.mac("aegis/test", b"data").unwrap()),
        "blob in aegis/test, aad, plain": hex(&blob),
    })
}

/// Plaintext and metadata of an object, without a permit: the folder may be governed.
fn contents(inner: &Inner, body: &Body, record: &KeyRecord) -> (ObjectFile, Sealed, Vec<u8>) {
    let file = ObjectFile::open(inner, record).unwrap();
    let (keys, header) = file.locked(inner, body, record).resealer().unwrap();
    file.check_size().unwrap();
    let meta = Sealed::decode(&header.open_meta(&file.header).unwrap(), record.object).unwrap();
    let mut data = vec![0; usize::try_from(file.header.length).unwrap()];
    let mut sealed = vec![0; file.header.chunk() + TAG];
    let mut left = &mut data[..];
    for index in 0..file.header.chunks {
        let (plain, rest) = left.split_at_mut(file.header.chunk_len(index));
        let sealed = file.sealed(index, &mut sealed).unwrap();
        assert!(keys.open(index, file.is_last(index), sealed, plain));
        left = rest;
    }
    (file, meta, data)
}

#[test]
fn this_code_still_writes_the_golden_objects() {
    for (version, name, provider) in all() {
        let (_dir, path) = copy(version, name);
        let vault = Vault::open(&path, &provider).unwrap();
        let inner = &vault.inner;
        let state = inner.current().unwrap();
        for record in state.body.records() {
            let (file, sealed, data) = contents(inner, &state.body, record);
            let dek = keys::unwrap_for_vectors(&state.body, inner.id, record);
            let aad = keys::wrap_aad(inner.id, record.key_record, record.subject, record.object);
            let fixed = fix(&record.wrapped[..12], AT);
            let wrapped = keys::wrap(&state.body.subjects[&record.subject], &aad, &dek).unwrap();
            assert_eq!(wrapped, record.wrapped);
            drop(fixed);
            let seed = ObjectRandomness {
                object: record.object,
                key_record: record.key_record,
                salt: file.header.salt,
                dek,
                created: record.created,
            };
            let meta = Meta {
                name: sealed.name,
                media_type: sealed.media_type,
                subject: sealed.subject,
                attrs: sealed.attrs,
            };
            let log2 = file.header.chunk_log2;
            let mut writer =
                ObjectWriter::begin(inner, meta, log2, record.kind, record.rows, seed).unwrap();
            writer.append(&data).unwrap();
            let finished = writer.complete().unwrap();
            let again = fs::read(inner.paths.object_tmp(record.object)).unwrap();
            let golden = fs::read(inner.paths.object(record.object)).unwrap();
            assert!(again == golden, "{version} {name}/{}", record.object);
            assert_eq!(finished.record.header_mac, record.header_mac);
        }
    }
}

/// Seals what `bytes` opens to, with the salt, epoch key and nonce that `bytes` has, and the changes with their salts.
fn sealed_again(bytes: &[u8], form: Form, root: &Secret<32>) -> (Vec<u8>, usize) {
    let envelope = envelope::peek(bytes, form).unwrap();
    let opened = envelope::open(bytes, form, root).unwrap();
    let mut drawn = bytes[120..152].to_vec();
    drawn.extend_from_slice(envelope::epoch_key(bytes, form, root).unwrap().expose());
    drawn.extend_from_slice(&bytes[232..244]);
    let fixed = fix(&drawn, AT);
    let (body, nothing) = (&opened.body, Delta::default());
    let mut out = envelope::seal(&envelope, root, body, &nothing, &body.audit)
        .unwrap()
        .bytes;
    drop(fixed);
    let mut again = envelope::open(bytes, form, root);
    let mut chain = opened.chain.unwrap();
    let (mut rest, mut changes) = (&bytes[opened.end..], 0);
    let mut scratch = Scratch::default();
    while let Next::Change(plain, whole) = chain.open(rest, &mut scratch).unwrap() {
        let (delta, audit) = Delta::decode(plain).unwrap();
        let _fixed = fix(&rest[16..48], AT);
        let chain = again.as_mut().unwrap().chain.as_mut().unwrap();
        let (record, link) = chain.seal(delta.encode(&audit).unwrap()).unwrap();
        chain.advance(link);
        out.extend_from_slice(&record);
        rest = &rest[whole..];
        changes += 1;
    }
    (out, changes)
}

#[test]
fn this_code_still_writes_the_golden_small_files() {
    for (version, name, provider) in all() {
        let (_dir, path) = copy(version, name);
        let layout = Paths::new(&path);
        let about = About::read(&layout).unwrap();
        let (bytes, envelope) = crate::vault::state::keystore(&layout, about.id).unwrap();
        let auth = Auth::of(&envelope, &provider, &path).unwrap();
        let secret = auth.epoch_key(&layout, about.id, envelope.epoch).unwrap();
        let root = auth.root(about.id, &secret).unwrap();
        if version == 2 {
            let (again, changes) = sealed_again(&bytes, Form::Keystore, &root);
            assert!(again == bytes, "{name}");
            assert_eq!(changes, if name == "key" { 4 } else { 0 });
        }
        for file in ["epoch.key", "vault.json"] {
            fs::remove_file(path.join(file)).unwrap();
        }
        secret.write_first(&layout, about.id, &provider).unwrap();
        about.write(&layout).unwrap();
        for file in ["epoch.key", "vault.json"] {
            let old = fs::read(golden(version).join(name).join(file)).unwrap();
            assert_eq!(fs::read(path.join(file)).unwrap(), old, "{name}/{file}");
        }
    }
    let bytes = fs::read(golden(2).join("key.akb")).unwrap();
    let envelope = envelope::peek(&bytes, Form::Backup).unwrap();
    let auth = Auth::of(&envelope, &words(RECOVERY), Path::new("key.akb")).unwrap();
    let none = EpochKey {
        epoch: envelope.epoch,
        secret: Secret::write(|_| ()),
    };
    let root = auth.root(envelope.vault, &none).unwrap();
    let (again, changes) = sealed_again(&bytes, Form::Backup, &root);
    assert!(again == bytes && changes == 0);
}

#[test]
fn a_vault_of_version_1_goes_on_as_version_2_at_its_first_commit() {
    for name in ["key", "passphrase"] {
        let (_dir, path) = copy(1, name);
        let provider = if name == "key" {
            key()
        } else {
            words(PASSPHRASE)
        };
        let version = || fs::read(path.join("keystore.akv")).unwrap()[8];
        let vault = Vault::open(&path, &provider).unwrap();
        let before = vault.list().unwrap();
        assert_eq!(version(), 1, "an opening changes nothing");
        let id = store(&vault, b"new");
        assert_eq!(version(), 2);
        let again = Vault::open(&path, &provider).unwrap();
        assert_eq!(again.list().unwrap().len(), before.len() + 1);
        again.verify(id).unwrap();
        for one in before {
            again.verify(one.id).unwrap();
            assert_eq!(again.stat(one.id).unwrap().name, one.name);
        }
        // The old keystore of the same epoch is an older one.
        fs::copy(
            golden(1).join(name).join("keystore.akv"),
            path.join("keystore.akv"),
        )
        .unwrap();
        let error = Vault::open(&path, &provider).unwrap_err();
        assert_eq!(error.code(), "AEG-V035");
    }
}

#[test]
fn this_code_still_opens_the_golden_folders() {
    for (version, name, provider) in all() {
        let (_dir, path) = copy(version, name);
        let vault = Vault::open(&path, &provider).unwrap();
        let text = fs::read(golden(version).join(name).with_extension("json")).unwrap();
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let mut found = Contents::new();
        for info in vault.list().unwrap() {
            vault.verify(info.id).unwrap();
            let state = vault.inner.current().unwrap();
            let record = state.body.live(info.id).unwrap();
            found.insert(info.id, contents(&vault.inner, &state.body, record).2);
            drop(state);
            if name == "key" {
                assert_eq!(found[&info.id], super::load(&vault, info.id).unwrap());
            }
        }
        let mut told = describe(&vault, &found);
        if version == 1 {
            told.as_object_mut().unwrap().remove("heads");
        }
        assert_eq!(told, expected, "{version} {name}");
        for id in expected["shredded"].as_array().unwrap() {
            let id = id.as_str().unwrap().parse().unwrap();
            let stat = vault.stat(id);
            assert!(matches!(
                stat,
                Err(VaultError::ObjectShredded { when: AT, .. })
            ));
        }
        for rows in found.keys().filter_map(|id| vault.dataset(*id).ok()) {
            assert_eq!(
                (rows.facts.clone(), rows.index.clone()),
                (write::facts(), write::index(&vault))
            );
            assert_eq!(name, "passphrase");
        }
    }
}

#[test]
fn the_golden_backup_still_restores_and_shreds_without_a_proof_are_counted_not_believed() {
    // The log of that build has no proofs yet: a forger could have written it.
    let (_dir, path) = copy(1, "key");
    fs::remove_file(path.join("keystore.akv")).unwrap();
    fs::remove_file(path.join("epoch.key")).unwrap();
    let backup = golden(1).join("key.akb");
    let vault = Vault::restore_keystore(
        &path,
        &backup,
        &words(RECOVERY),
        &key(),
        LogTrust::default(),
    )
    .unwrap();
    let expected: Value =
        serde_json::from_slice(&fs::read(golden(1).join("key.json")).unwrap()).unwrap();
    let gone = expected["shredded"][0].as_str().unwrap().parse().unwrap();
    let ids: Vec<Uuid> = {
        let state = vault.inner.current().unwrap();
        let data = state.body.records().filter(|r| r.kind == Kind::Data);
        data.map(|record| record.object).collect()
    };
    assert_eq!(ids.len(), expected["objects"].as_array().unwrap().len() + 1);
    for id in ids.into_iter().filter(|id| *id != gone) {
        vault.verify(id).unwrap();
    }
    assert!(matches!(
        vault.verify(gone),
        Err(VaultError::ObjectMissing { .. })
    ));
    let restored = aegis_audit::read(&path.join("audit"))
        .unwrap()
        .map(|record| record.unwrap().body)
        .find(|body| body["event"] == "keystore.restored")
        .unwrap();
    assert_eq!(restored["unproven"], 1);
    assert_eq!(restored["log_lost"], false);
}
