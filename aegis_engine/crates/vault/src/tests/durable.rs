//! A crash at each step leaves the old state or the new one.

use super::*;
use crate::VaultError;
use crate::system::failpoint;

/// Runs `change`, "dying" at `point`, then opens the folder anew as the next process would.
fn crash(
    point: &'static str,
    change: impl FnOnce(&Vault, Uuid) -> Result<()>,
) -> (TempDir, Vault, Uuid) {
    let (dir, vault) = vault();
    let id = store(&vault, b"x");
    failpoint::arm(Some(point));
    let error = change(&vault, id).expect_err("the crash");
    assert!(
        error.to_string().contains("simulated crash"),
        "{point}: {error}"
    );
    let path = vault.path().to_path_buf();
    drop(vault);
    let reopened =
        Vault::open(&path, &provider()).unwrap_or_else(|error| panic!("{point}: {error}"));
    for left in ["epoch.key.next", "keystore.akv.tmp"] {
        assert!(!path.join(left).exists(), "{point}: {left}");
    }
    assert_eq!(
        fs::read_dir(path.join("journal")).unwrap().count(),
        0,
        "{point}"
    );
    (dir, reopened, id)
}

#[test]
fn a_shred_goes_forward_from_every_step() {
    let points = [
        "shred.intent",
        "ratchet.start",
        "ratchet.next",
        "ratchet.keystore",
        "ratchet.overwritten",
        "ratchet.promoted",
        "shred.ratcheted",
    ];
    for point in points {
        let (_dir, vault, id) = crash(point, |vault, id| vault.shred(id, None).map(drop));
        assert!(
            matches!(vault.stat(id), Err(VaultError::ObjectShredded { .. })),
            "{point}"
        );
        assert!(!vault.inner.paths.object(id).exists(), "{point}");
        assert_eq!(vault.epoch().unwrap(), 2, "{point}");
        let last = aegis_audit::read(&vault.inner.paths.audit())
            .unwrap()
            .last()
            .unwrap()
            .unwrap();
        assert_eq!(last.body["event"], "shred", "{point}");
        store(&vault, b"and on");
    }
}

#[test]
fn a_store_goes_back_from_every_step() {
    for point in ["store.synced", "store.renamed"] {
        let (_dir, vault, id) = crash(point, |vault, _| {
            vault.store_bytes(b"lost", unused()).map(drop)
        });
        assert_eq!(vault.list().unwrap().len(), 1, "{point}");
        assert_eq!(load(&vault, id).unwrap(), b"x", "{point}");
        let files: usize = fs::read_dir(vault.inner.paths.objects())
            .unwrap()
            .map(|shard| fs::read_dir(shard.unwrap().path()).unwrap().count())
            .sum();
        assert_eq!(files, 1, "{point}");
    }
}

#[test]
fn the_same_handle_goes_on_after_a_failed_ratchet() {
    let (_dir, vault) = vault();
    let (a, b) = (store(&vault, b"a"), store(&vault, b"b"));
    failpoint::arm(Some("ratchet.keystore"));
    vault.shred(a, None).unwrap_err();
    // The keystore is of epoch 2, epoch.key still of epoch 1: readers manage, and the next writer settles it.
    assert_eq!(load(&vault, b).unwrap(), b"b");
    assert!(vault.inner.paths.epoch_next().exists());
    store(&vault, b"c");
    assert!(!vault.inner.paths.epoch_next().exists());
    assert!(matches!(
        vault.stat(a),
        Err(VaultError::ObjectShredded { .. })
    ));
}

#[test]
fn a_torn_next_epoch_key_is_dropped() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    for len in [0, 1, 63] {
        fs::write(vault.inner.paths.epoch_next(), vec![0x41; len]).unwrap();
        let reopened = Vault::open(vault.path(), &provider()).unwrap();
        assert_eq!(load(&reopened, id).unwrap(), b"x");
        assert!(!vault.inner.paths.epoch_next().exists());
    }
}

#[test]
fn a_torn_next_epoch_key_with_a_lost_epoch_key_destroys_nothing_more() {
    let (_dir, vault) = vault();
    fs::write(vault.inner.paths.epoch_next(), b"torn").unwrap();
    fs::write(vault.inner.paths.epoch_key(), b"lost").unwrap();
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::KeyDestroyed { .. })
    ));
    assert!(vault.inner.paths.epoch_next().exists());
}

#[test]
fn an_interrupted_create_starts_again() {
    let (_dir, vault) = vault();
    let path = vault.path().to_path_buf();
    drop(vault);
    for folder in ["audit", "consent"] {
        fs::remove_dir_all(path.join(folder)).unwrap();
    }
    fs::remove_file(path.join("vault.json")).unwrap();
    Vault::open_or_create(&path, &provider()).unwrap();
}

#[test]
fn a_lost_vault_json_never_costs_the_keystore() {
    let (_dir, vault) = vault();
    store(&vault, b"x");
    let keystore = fs::read(vault.inner.paths.keystore()).unwrap();
    fs::remove_file(vault.inner.paths.about()).unwrap();
    assert!(matches!(
        Vault::open_or_create(vault.path(), &provider()),
        Err(VaultError::NotAVault { .. })
    ));
    assert_eq!(fs::read(vault.inner.paths.keystore()).unwrap(), keystore);
}

#[test]
fn a_forged_shred_intent_destroys_nothing() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let forged = format!(
        r#"{{"objects":["{id}"],"when":1,"mac":"{}"}}"#,
        "00".repeat(32)
    );
    let path = vault.inner.paths.shred_intent(id);
    fs::write(&path, forged).unwrap();
    assert!(matches!(
        Vault::open(vault.path(), &provider()),
        Err(VaultError::IntentForged { .. })
    ));
    fs::remove_file(&path).unwrap();
    assert_eq!(
        load(&Vault::open(vault.path(), &provider()).unwrap(), id).unwrap(),
        b"x"
    );
}

#[test]
fn a_rename_that_fails_says_so_and_loses_nothing() {
    type Change = fn(&Vault, Uuid) -> Result<()>;
    let changes: [(&str, Change); 5] = [
        ("store", |vault, _| {
            vault.store_bytes(b"y", unused()).map(drop)
        }),
        ("shred", |vault, id| vault.shred(id, None).map(drop)),
        ("rotate", |vault, _| vault.rotate(None).map(drop)),
        ("reencrypt", |vault, id| vault.reencrypt(id, None).map(drop)),
        ("destroy", |vault, _| vault.destroy(None).map(drop)),
    ];
    for (what, change) in changes {
        let (_dir, vault, id) = crash("file.renaming", change);
        assert_eq!(load(&vault, id).unwrap(), b"x", "{what}");
        let options = crate::FsckOptions::default();
        let report = Vault::fsck(vault.path(), &provider(), options).unwrap();
        assert!(report.clean(), "{what}: {:?}", report.findings);
        store(&vault, b"and on");
    }
}
