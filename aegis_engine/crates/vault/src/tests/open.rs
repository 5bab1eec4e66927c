use std::time::Duration;

use super::*;
use crate::VaultError;
use crate::system::lock;

#[test]
fn wrong_length_wrong_key_and_not_a_vault_are_three_errors_with_remedies() {
    let (dir, vault) = vault();
    let path = vault.path().to_path_buf();
    let length = Provider::raw(b"short").unwrap_err();
    assert_eq!(length.code(), "AEG-V005");
    assert!(length.to_string().contains("openssl rand"));
    let wrong = Vault::open(&path, &Provider::raw(&[1; 32]).unwrap()).unwrap_err();
    assert!(matches!(wrong, VaultError::WrongKey { .. }), "{wrong}");
    assert!(
        wrong
            .to_string()
            .contains("give the key the vault was created with")
    );
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), b"x").unwrap();
    let not = Vault::open(&other, &provider()).unwrap_err();
    assert!(matches!(not, VaultError::NotAVault { .. }), "{not}");
    assert!(matches!(
        Vault::create(&other, &provider()),
        Err(VaultError::NotAVault { .. })
    ));
    assert!(matches!(
        Vault::open_or_create(&other, &provider()),
        Err(VaultError::NotAVault { .. })
    ));
    assert_eq!(fs::read(other.join("file")).unwrap(), b"x");
    assert!(matches!(
        Vault::open(&dir.path().join("nothing"), &provider()),
        Err(VaultError::NotFound { .. })
    ));
    assert!(matches!(
        Vault::create(&path, &provider()),
        Err(VaultError::AlreadyExists { .. })
    ));
    let texts = [length.to_string(), wrong.to_string(), not.to_string()];
    assert!(texts.iter().all(|text| !text.contains("SUPER_SECRET")));
}

#[test]
fn open_or_create_creates_once_and_opens_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let first = Vault::open_or_create(&path, &provider()).unwrap();
    let id = store(&first, b"x");
    let second = Vault::open_or_create(&path, &provider()).unwrap();
    assert_eq!(first.id(), second.id());
    assert_eq!(load(&second, id).unwrap(), b"x");
    assert!(matches!(
        Vault::open_or_create(&path, &Provider::raw(&[1; 32]).unwrap()),
        Err(VaultError::WrongKey { .. })
    ));
}

#[test]
fn another_handle_sees_new_objects() {
    let (_dir, vault) = vault();
    let other = Vault::open(vault.path(), &provider()).unwrap();
    let id = store(&vault, b"x");
    assert_eq!(load(&other, id).unwrap(), b"x");
    let back = store(&other, b"y");
    assert_eq!(load(&vault, back).unwrap(), b"y");
    assert_eq!(vault.list().unwrap().len(), 2);
}

#[test]
fn handles_in_many_threads_store_without_losing_one() {
    let (_dir, vault) = vault();
    std::thread::scope(|scope| {
        for t in 0..4_u8 {
            let path = vault.path();
            scope.spawn(move || {
                let own = Vault::open(path, &provider()).unwrap();
                own.set_lock_wait(Duration::from_mins(1));
                for _ in 0..5 {
                    store(&own, &[t; 10]);
                }
            });
        }
    });
    assert_eq!(vault.list().unwrap().len(), 20);
    assert!(
        vault
            .verify_all(None)
            .unwrap()
            .iter()
            .all(|(_, result)| result.is_ok())
    );
}

#[test]
fn a_held_lock_ends_in_locked_with_the_holder() {
    let (_dir, vault) = vault();
    vault.set_lock_wait(Duration::from_millis(30));
    let mut held = lock::exclusive(&vault.inner.paths.lock(), Duration::from_secs(1)).unwrap();
    held.sign();
    let error = vault.store_bytes(b"x", unused()).unwrap_err();
    let me = format!("process {}", std::process::id());
    assert!(
        matches!(&error, VaultError::Locked { by, .. } if *by == me),
        "{error}"
    );
    drop(held);
    vault.store_bytes(b"x", unused()).unwrap();
}

#[test]
fn a_keystore_of_another_vault_or_a_damaged_one_is_refused() {
    let (_a, vault) = vault();
    let (_b, other) = super::vault();
    let keystore = vault.inner.paths.keystore();
    let good = fs::read(&keystore).unwrap();
    fs::copy(other.inner.paths.keystore(), &keystore).unwrap();
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::KeystoreCorrupt { .. })
    ));
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&keystore, &bad).unwrap();
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::KeystoreCorrupt { .. })
    ));
    fs::write(&keystore, &good).unwrap();
    Vault::open(vault.path(), &provider()).unwrap();
}

#[test]
fn a_shortened_or_missing_audit_log_keeps_the_vault_closed() {
    let (_dir, vault) = vault();
    let log = vault.audit().path().to_path_buf();
    let old = fs::read(&log).unwrap();
    store(&vault, b"x");
    fs::write(&log, &old).unwrap();
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::AuditRollback { .. })
    ));
    fs::remove_dir_all(vault.inner.paths.audit()).unwrap();
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::AuditRollback { .. })
    ));
}

#[test]
fn key_files_open_what_raw_keys_created() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, vault) = vault();
    let path = dir.path().join("key");
    fs::write(&path, KEY).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Vault::open(vault.path(), &Provider::key_file(path)).unwrap();
}

#[test]
fn blobs_open_only_with_their_domain_and_context_and_vault() {
    let (_a, vault) = vault();
    let (_b, other) = super::vault();
    let blob = vault.seal_blob("ledger", b"ctx", b"state").unwrap();
    assert_eq!(*vault.open_blob("ledger", b"ctx", &blob).unwrap(), b"state");
    let refused = |v: &Vault, domain: &str, aad: &[u8], blob: &[u8]| {
        assert!(matches!(
            v.open_blob(domain, aad, blob),
            Err(VaultError::BlobAuthFailed { .. })
        ));
    };
    refused(&vault, "other", b"ctx", &blob);
    refused(&vault, "ledger", b"", &blob);
    refused(&other, "ledger", b"ctx", &blob);
    for at in 0..blob.len() {
        let mut bad = blob.clone();
        bad[at] ^= 1;
        refused(&vault, "ledger", b"ctx", &bad);
        refused(&vault, "ledger", b"ctx", &blob[..at]);
    }
}

#[test]
fn pseudonyms_are_stable_in_a_vault_and_unlinkable_between_vaults() {
    let (_a, vault) = vault();
    let (_b, other) = super::vault();
    let pseudonym = vault.pseudonym("person").unwrap();
    let id = store(&vault, b"x");
    vault.shred(id, None).unwrap();
    let reopened = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(reopened.pseudonym("person").unwrap(), pseudonym);
    assert_ne!(other.pseudonym("person").unwrap(), pseudonym);
    assert_ne!(vault.mac("a", b"x").unwrap(), vault.mac("b", b"x").unwrap());
}
