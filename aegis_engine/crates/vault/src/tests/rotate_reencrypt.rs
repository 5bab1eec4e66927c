//! Rotations and re-encryption: new keys, the same data.

use super::*;
use crate::VaultError;

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
