use super::*;
use crate::{Level, VaultError};

#[test]
fn old_copies_with_the_current_key_stop_opening_and_the_limit_is_the_old_epoch_key() {
    let (dir, vault) = vault();
    let (gone, kept) = (store(&vault, b"gone"), store(&vault, b"kept"));
    let copy = dir.path().join("copy");
    copy_tree(vault.path(), &copy);
    let receipt = vault.shred(gone, Some(Level::RatchetedFile)).unwrap();
    assert_eq!(
        (
            receipt.objects.as_slice(),
            receipt.epoch_before,
            receipt.epoch_after
        ),
        (&[gone][..], 1, 2)
    );
    assert!(!receipt.caveats.is_empty());
    assert!(!vault.inner.paths.object(gone).exists());
    // The vault itself: tombstone, the rest reads.
    assert!(matches!(
        load_err(&vault, gone),
        VaultError::ObjectShredded { .. }
    ));
    assert_eq!(load(&vault, kept).unwrap(), b"kept");
    // A thief with the whole old folder, the provider's key and today's epoch secret.
    let old_epoch = fs::read(copy.join("epoch.key")).unwrap();
    fs::copy(vault.inner.paths.epoch_key(), copy.join("epoch.key")).unwrap();
    assert!(matches!(
        Vault::open(&copy, &provider()),
        Err(VaultError::KeyDestroyed { .. })
    ));
    fs::remove_file(copy.join("epoch.key")).unwrap();
    assert!(matches!(
        Vault::open(&copy, &provider()),
        Err(VaultError::KeyDestroyed { .. })
    ));
    // The documented limit: an old copy of epoch.key brings it back.
    fs::write(copy.join("epoch.key"), old_epoch).unwrap();
    let thief = Vault::open(&copy, &provider()).unwrap();
    assert_eq!(load(&thief, gone).unwrap(), b"gone");
}

fn load_err(vault: &Vault, id: Uuid) -> VaultError {
    vault.owner_permit(id, Action::Read).expect_err("shredded")
}

#[test]
fn an_old_keystore_put_back_is_a_rollback() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let old = fs::read(vault.inner.paths.keystore()).unwrap();
    let old_epoch = fs::read(vault.inner.paths.epoch_key()).unwrap();
    vault.shred(id, None).unwrap();
    fs::write(vault.inner.paths.keystore(), old).unwrap();
    fs::write(vault.inner.paths.epoch_key(), old_epoch).unwrap();
    let rollback = |error| {
        matches!(
            error,
            VaultError::KeystoreRollback {
                expected: 2,
                found: 1
            }
        )
    };
    assert!(rollback(
        Vault::open(vault.path(), &provider()).unwrap_err()
    ));
    assert!(rollback(vault.list().unwrap_err()));
}

#[test]
fn an_open_reader_fails_on_the_next_call_also_across_handles() {
    let (_dir, vault) = vault();
    let id = store(&vault, &noise(10_000));
    let other = Vault::open(vault.path(), &provider()).unwrap();
    let readers = [
        vault.reader(&owner(&vault, id), id).unwrap(),
        other.reader(&owner(&other, id), id).unwrap(),
    ];
    let mut out = [0; 10];
    for reader in &readers {
        reader.read_at(0, &mut out).unwrap();
    }
    vault.shred(id, None).unwrap();
    for reader in &readers {
        assert!(
            matches!(reader.read_at(0, &mut out), Err(VaultError::ObjectShredded { object, .. }) if object == id)
        );
        assert!(out.iter().all(|b| *b == 0));
    }
    assert!(matches!(
        other.verify(id),
        Err(VaultError::ObjectShredded { .. })
    ));
}

#[test]
fn a_level_out_of_reach_shreds_nothing() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let error = vault.shred(id, Some(Level::Hardware)).unwrap_err();
    assert!(
        matches!(error, VaultError::InsufficientAssurance { .. }),
        "{error}"
    );
    assert_eq!(vault.epoch().unwrap(), 1);
    assert_eq!(load(&vault, id).unwrap(), b"x");
}

#[test]
fn a_second_shred_says_when_the_first_was() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let first = vault.shred(id, None).unwrap();
    let again = vault.shred(id, None).unwrap_err();
    assert!(matches!(again, VaultError::ObjectShredded { when, .. } if when == first.when));
    assert_eq!(vault.epoch().unwrap(), 2);
}

#[test]
fn the_shred_is_on_record_without_a_name() {
    let (_dir, vault) = vault();
    let id = vault
        .store_bytes(
            b"x",
            Meta {
                subject: Some("person".into()),
                ..Meta::named("secret name")
            },
        )
        .unwrap();
    let receipt = vault.shred(id, None).unwrap();
    let last = aegis_audit::read(&vault.inner.paths.audit())
        .unwrap()
        .last()
        .unwrap()
        .unwrap();
    assert_eq!(last.seq, receipt.audit_seq);
    assert_eq!(last.body["event"], "shred");
    assert_eq!(last.body["objects"][0], id.to_string());
    let text = fs::read_to_string(vault.audit().path()).err().map_or_else(
        || panic!("the log has a binary header"),
        |_| String::from_utf8_lossy(&fs::read(vault.audit().path()).unwrap()).into_owned(),
    );
    assert!(!text.contains("person") && !text.contains("secret name"));
}

fn about(vault: &Vault, subject: &str, data: &[u8]) -> Uuid {
    let meta = Meta {
        subject: Some(subject.into()),
        ..unused()
    };
    vault.store_bytes(data, meta).unwrap()
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
