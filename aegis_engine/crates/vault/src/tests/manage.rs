//! Rename, rotation, re-encryption, backups, subjects, destruction.

use super::*;
use crate::keys::provider::Passphrase;
use crate::{Level, LogTrust, VaultError};
use zeroize::Zeroizing;

fn other() -> Provider {
    Provider::raw(&[7; 32]).unwrap()
}

fn passphrase(text: &[u8]) -> Provider {
    Provider::new(Passphrase::new(Zeroizing::new(text.to_vec())).unwrap())
}

fn about(vault: &Vault, subject: &str, data: &[u8]) -> Uuid {
    let meta = Meta {
        subject: Some(subject.into()),
        ..unused()
    };
    vault.store_bytes(data, meta).unwrap()
}

#[test]
fn a_rename_changes_the_name_and_no_byte_of_the_file() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let file = fs::read(vault.inner.paths.object(id)).unwrap();
    vault.rename(id, "nouveau é.csv").unwrap();
    let again = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(again.stat(id).unwrap().name, "nouveau é.csv");
    assert_eq!(again.list().unwrap()[0].name, "nouveau é.csv");
    assert_eq!(fs::read(vault.inner.paths.object(id)).unwrap(), file);
    assert_eq!(load(&again, id).unwrap(), b"x");
    for bad in ["", &"n".repeat(1025)] {
        assert!(matches!(
            vault.rename(id, bad),
            Err(VaultError::BadRequest { .. })
        ));
    }
    assert!(matches!(
        vault.rename(Uuid::nil(), "n"),
        Err(VaultError::ObjectNotFound { .. })
    ));
}

#[test]
fn after_a_rotation_only_the_new_key_opens_and_no_data_was_written() {
    let (dir, vault) = vault();
    let id = store(&vault, b"x");
    let file = fs::read(vault.inner.paths.object(id)).unwrap();
    let old = dir.path().join("old");
    copy_tree(vault.path(), &old);
    assert_eq!(vault.rotate(Some(&other())).unwrap(), 2);
    // This handle goes on; the old key is refused.
    assert_eq!(load(&vault, id).unwrap(), b"x");
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::WrongKey { .. })
    ));
    let again = Vault::open(vault.path(), &other()).unwrap();
    assert_eq!(load(&again, id).unwrap(), b"x");
    assert_eq!(fs::read(vault.inner.paths.object(id)).unwrap(), file);
    // An old copy of the keystore needs the destroyed epoch secret as well as the old key.
    fs::copy(again.inner.paths.epoch_key(), old.join("epoch.key")).unwrap();
    assert!(matches!(
        Vault::open(&old, &provider()),
        Err(VaultError::KeyDestroyed { .. })
    ));
}

#[test]
fn a_rotation_without_a_key_renews_the_root() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    assert_eq!(vault.rotate(None).unwrap(), 2);
    assert_eq!(
        load(&Vault::open(vault.path(), &provider()).unwrap(), id).unwrap(),
        b"x"
    );
}

#[test]
fn a_passphrase_opens_its_vault_and_a_key_does_not() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    vault.rotate(Some(&passphrase(b"tea"))).unwrap();
    for (wrong, named) in [(passphrase(b"coffee"), false), (provider(), true)] {
        let error = Vault::open(vault.path(), &wrong).unwrap_err();
        assert_eq!(matches!(error, VaultError::WrongProvider { .. }), named);
        assert_eq!(matches!(error, VaultError::WrongKey { .. }), !named);
    }
    let again = Vault::open(vault.path(), &passphrase(b"tea")).unwrap();
    assert_eq!(load(&again, id).unwrap(), b"x");
    let about = fs::read_to_string(vault.inner.paths.about()).unwrap();
    assert!(about.contains("\"passphrase\""), "{about}");
}

#[test]
fn another_process_with_the_same_provider_follows_a_rotation() {
    let (dir, vault) = vault();
    let id = store(&vault, b"x");
    let file = dir.path().join("key");
    let write = |key: &[u8]| {
        use std::os::unix::fs::PermissionsExt;
        fs::write(&file, key).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(KEY);
    let follower = Vault::open(vault.path(), &Provider::key_file(&file)).unwrap();
    vault.rotate(Some(&other())).unwrap();
    assert!(matches!(follower.list(), Err(VaultError::WrongKey { .. })));
    write(&[7; 32]);
    assert_eq!(load(&follower, id).unwrap(), b"x");
}

#[test]
fn re_encryption_changes_every_key_and_destroys_the_old_ones() {
    let (dir, vault) = vault();
    let data = noise(3 * 4096 + 5);
    let mut writer = vault
        .writer_chunked(
            Meta {
                subject: Some("p".into()),
                ..unused()
            },
            12,
        )
        .unwrap();
    writer.append(&data).unwrap();
    let old = writer.finish().unwrap();
    vault.rename(old, "current").unwrap();
    let copy = dir.path().join("copy");
    copy_tree(vault.path(), &copy);
    let before = fs::read(vault.inner.paths.object(old)).unwrap();
    let mut seen = 0;
    let new = vault.reencrypt(old, Some(&mut |done| seen = done)).unwrap();
    assert_eq!(seen, data.len() as u64);
    assert_ne!(new, old);
    assert_eq!(load(&vault, new).unwrap(), data);
    let info = vault.stat(new).unwrap();
    assert_eq!(
        (info.name.as_str(), info.subject.as_deref()),
        ("current", Some("p"))
    );
    assert_eq!(info.chunk_bytes, 4096);
    let after = fs::read(vault.inner.paths.object(new)).unwrap();
    let same = before[4096..]
        .iter()
        .zip(&after[4096..])
        .filter(|(a, b)| a == b)
        .count();
    assert!(same * 50 < data.len(), "{same} equal bytes of ciphertext");
    assert!(matches!(
        vault.stat(old),
        Err(VaultError::ObjectShredded { .. })
    ));
    assert!(!vault.inner.paths.object(old).exists());
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
    fs::copy(vault.inner.paths.epoch_key(), copy.join("epoch.key")).unwrap();
    assert!(matches!(
        Vault::open(&copy, &provider()),
        Err(VaultError::KeyDestroyed { .. })
    ));
}

#[test]
fn a_damaged_object_is_not_re_encrypted_and_stays() {
    let (_dir, vault) = vault();
    let id = store(&vault, &noise(10_000));
    let path = vault.inner.paths.object(id);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 4112 + 7] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(
        vault.reencrypt(id, None),
        Err(VaultError::ChunkAuthFailed { index: 1, .. })
    ));
    assert_eq!(vault.list().unwrap().len(), 1);
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
}

#[test]
fn a_subject_is_shredded_in_all_its_objects_and_no_other() {
    let (_dir, vault) = vault();
    let (a, b) = (about(&vault, "ann", b"a"), about(&vault, "ann", b"b"));
    let other = about(&vault, "bob", b"c");
    let receipt = vault.shred_subject("ann", None).unwrap();
    let mut gone = receipt.objects.clone();
    gone.sort();
    let mut expected = vec![a, b];
    expected.sort();
    assert_eq!(gone, expected);
    assert_eq!(receipt.epoch_after, 2);
    assert_eq!(load(&vault, other).unwrap(), b"c");
    assert!(matches!(
        vault.shred_subject("ann", None),
        Err(VaultError::SubjectNotFound)
    ));
    assert_eq!(vault.epoch().unwrap(), 2);
}

#[test]
fn many_objects_go_in_one_ratchet_or_none_goes() {
    let (_dir, vault) = vault();
    let all: Vec<Uuid> = (0..5).map(|n| store(&vault, &[n])).collect();
    let missing = [all[0], Uuid::nil()];
    assert!(vault.shred_many(&missing, None).is_err());
    assert_eq!(load(&vault, all[0]).unwrap(), [0]);
    let receipt = vault.shred_many(&[all[0], all[1], all[0]], None).unwrap();
    assert_eq!(receipt.objects, all[..2]);
    assert_eq!(vault.epoch().unwrap(), 2);
    assert_eq!(vault.list().unwrap().len(), 3);
    assert!(vault.shred_many(&[], None).is_err());
}

#[test]
fn a_backup_brings_back_a_lost_keystore_but_not_what_was_shredded_since() {
    let (dir, vault) = vault();
    let (kept, gone) = (store(&vault, b"kept"), store(&vault, b"gone"));
    let gone_file = fs::read(vault.inner.paths.object(gone)).unwrap();
    let backup = dir.path().join("keystore.backup");
    vault.backup_keystore(&backup, &other()).unwrap();
    assert!(
        vault.backup_keystore(&backup, &other()).is_err(),
        "overwritten"
    );
    let receipt = vault.shred(gone, None).unwrap();
    assert_eq!(receipt.copies.len(), 1);
    assert!(receipt.copies[0].label.ends_with("keystore.backup"));
    let late = store(&vault, b"late");
    let path = vault.path().to_path_buf();
    drop(vault);
    for lost in ["keystore.akv", "epoch.key", "vault.json"] {
        fs::remove_file(path.join(lost)).unwrap();
    }
    // Somebody kept the ciphertext of the shredded object.
    fs::write(Paths::new(&path).object(gone), gone_file).unwrap();
    let wrong = Vault::restore_keystore(
        &path,
        &backup,
        &provider(),
        &provider(),
        LogTrust::default(),
    )
    .unwrap_err();
    assert!(matches!(wrong, VaultError::WrongKey { .. }), "{wrong}");
    let vault = Vault::restore_keystore(&path, &backup, &other(), &provider(), LogTrust::default())
        .unwrap();
    assert_eq!(load(&vault, kept).unwrap(), b"kept");
    assert!(matches!(
        vault.stat(gone),
        Err(VaultError::ObjectShredded { .. })
    ));
    assert!(matches!(
        vault.stat(late),
        Err(VaultError::ObjectNotFound { .. })
    ));
    assert!(vault.epoch().unwrap() > 1);
    // The vault goes on, and opens again.
    let next = store(&vault, b"next");
    let again = Vault::open(&path, &provider()).unwrap();
    assert_eq!(load(&again, next).unwrap(), b"next");
}

#[test]
fn every_bit_of_a_backup_is_authenticated() {
    let (dir, vault) = vault();
    let backup = dir.path().join("b");
    vault.backup_keystore(&backup, &other()).unwrap();
    let good = fs::read(&backup).unwrap();
    let target = dir.path().join("t");
    for at in (0..good.len()).chain([usize::MAX]) {
        let mut bad = good.clone();
        match bad.get_mut(at) {
            Some(byte) => *byte ^= 4,
            None => bad.push(0),
        }
        fs::write(&backup, bad).unwrap();
        fs::create_dir_all(&target).unwrap();
        let trust = LogTrust {
            accept_lost: true,
            ..LogTrust::default()
        };
        let opened = Vault::restore_keystore(&target, &backup, &other(), &provider(), trust);
        assert!(
            !matches!(opened, Ok(_) | Err(VaultError::AuditRollback { .. })),
            "byte {at}"
        );
        assert!(!target.join("keystore.akv").exists(), "byte {at}");
    }
}

#[test]
fn an_older_keystore_of_the_same_epoch_is_told_and_accepted_only_on_request() {
    let (_dir, vault) = vault();
    let first = store(&vault, b"first");
    let old = fs::read(vault.inner.paths.keystore()).unwrap();
    let second = store(&vault, b"second");
    let path = vault.path().to_path_buf();
    fs::write(vault.inner.paths.keystore(), &old).unwrap();
    let stale = |error: &VaultError| matches!(error, VaultError::KeystoreStale { .. });
    assert!(stale(&vault.list().unwrap_err()));
    drop(vault);
    assert!(stale(&Vault::open(&path, &provider()).unwrap_err()));
    let vault = Vault::open_accepting_older(&path, &provider()).unwrap();
    assert_eq!(load(&vault, first).unwrap(), b"first");
    assert!(vault.stat(second).is_err());
    drop(vault);
    let vault = Vault::open(&path, &provider()).unwrap();
    store(&vault, b"third");
    drop(vault);
    Vault::open(&path, &provider()).unwrap();
    // The one that was put back before is older still.
    fs::write(path.join("keystore.akv"), &old).unwrap();
    assert!(stale(&Vault::open(&path, &provider()).unwrap_err()));
}

#[test]
fn a_destroyed_vault_leaves_its_audit_log_and_says_when() {
    let (dir, vault) = vault();
    let id = store(&vault, b"x");
    let copy = dir.path().join("copy");
    copy_tree(vault.path(), &copy);
    let path = vault.path().to_path_buf();
    assert!(matches!(
        vault.destroy(Some(Level::Kms)),
        Err(VaultError::InsufficientAssurance { .. })
    ));
    let receipt = vault.destroy(None).unwrap();
    assert_eq!(receipt.objects, [id]);
    assert!(matches!(
        vault.list(),
        Err(VaultError::VaultDestroyed { .. })
    ));
    assert!(matches!(
        Vault::open(&path, &provider()),
        Err(VaultError::VaultDestroyed { when, .. }) if when == receipt.when
    ));
    for gone in ["keystore.akv", "epoch.key"] {
        assert!(!path.join(gone).exists());
    }
    assert_eq!(fs::read_dir(path.join("objects")).unwrap().count(), 0);
    let last = aegis_audit::read(&path.join("audit"))
        .unwrap()
        .last()
        .unwrap()
        .unwrap();
    assert_eq!(
        (last.body["event"].as_str(), last.seq),
        (Some("destroy"), receipt.audit_seq)
    );
    assert!(Vault::open_or_create(&path, &provider()).is_err());
    fs::remove_file(copy.join("epoch.key")).unwrap();
    assert!(Vault::open(&copy, &provider()).is_err());
}

#[test]
fn a_destruction_goes_forward_from_every_step() {
    for point in [
        "destroy.declared",
        "destroy.provider",
        "destroy.file",
        "destroy.objects",
    ] {
        let (_dir, vault) = vault();
        store(&vault, b"x");
        let path = vault.path().to_path_buf();
        crate::system::failpoint::arm(Some(point));
        vault.destroy(None).expect_err("the crash");
        drop(vault);
        for _ in 0..2 {
            let error = Vault::open(&path, &provider()).unwrap_err();
            assert!(
                matches!(error, VaultError::VaultDestroyed { .. }),
                "{point}: {error}"
            );
        }
        assert_eq!(
            fs::read_dir(path.join("objects")).unwrap().count(),
            0,
            "{point}"
        );
        assert_eq!(
            fs::read_dir(path.join("journal")).unwrap().count(),
            0,
            "{point}"
        );
        assert!(!path.join("keystore.akv").exists(), "{point}");
    }
}

#[test]
fn a_destruction_that_was_not_declared_did_not_happen() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    crate::system::failpoint::arm(Some("destroy.intent"));
    vault.destroy(None).expect_err("the crash");
    let again = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(load(&again, id).unwrap(), b"x");
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
}

#[test]
fn a_forged_mark_of_destruction_destroys_nothing() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let layout = &vault.inner.paths;
    let good = fs::read_to_string(layout.about()).unwrap();
    let marked = good.replace("\"epoch\": 1", "\"epoch\": 1, \"destroyed\": 5");
    assert_ne!(good, marked);
    fs::write(layout.about(), marked).unwrap();
    fs::write(layout.destroy_intent(), "00".repeat(32)).unwrap();
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::BadRequest { .. })
    ));
    fs::write(layout.about(), good).unwrap();
    let again = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(load(&again, id).unwrap(), b"x");
}

#[test]
fn a_damaged_vault_json_is_not_taken_for_another_program() {
    let (_dir, vault) = vault();
    let layout = &vault.inner.paths;
    for bad in ["", "{", "{\"format\": \"aegis-vault\", \"version\": 1}"] {
        fs::write(layout.about(), bad).unwrap();
        assert!(matches!(
            Vault::open(vault.path(), &provider()),
            Err(VaultError::AboutDamaged { .. })
        ));
    }
}
