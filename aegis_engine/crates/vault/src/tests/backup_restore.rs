//! Backups of the keystore: what they bring back, and what they must not.

use super::*;
use crate::{LogTrust, VaultError};

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
