//! The end of a vault: declared, carried out from every step, and never by a forged mark.

use super::*;
use crate::{Level, VaultError};

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
