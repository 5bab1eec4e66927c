//! Permits to rows: each ends when its time, its consents or its bundle do.

use super::*;

#[test]
fn the_owner_of_an_ungoverned_vault_reads_all_rows_and_columns() {
    let (_dir, vault) = vault();
    let (id, data, _) = dataset(&vault);
    let reader = vault.records(&owner(&vault, id), id).unwrap();
    assert_eq!(
        (reader.rows().len(), reader.record_len()),
        (u64::from(ROWS), schema().record_len())
    );
    let rows: Vec<u32> = (0..ROWS).collect();
    let mut out = vec![0; data.len()];
    reader.read_rows(&rows, &mut out).unwrap();
    assert_eq!(out, data);
}

#[test]
fn the_owners_permit_ends_when_the_vault_is_governed() {
    let (_dir, vault) = vault();
    let (id, ..) = dataset(&vault);
    let other = Vault::open(vault.path(), &provider()).unwrap();
    let permit = owner(&vault, id);
    let reader = vault.records(&permit, id).unwrap();
    let old = fs::read(vault.inner.paths.keystore()).unwrap();
    other.govern(&Bundle::core()).unwrap();
    let mut out = vec![7; reader.record_len()];
    assert!(matches!(
        reader.read_rows(&[0], &mut out),
        Err(VaultError::PermitRequired { .. })
    ));
    assert!(out.iter().all(|b| *b == 0));
    assert!(matches!(
        vault.records(&permit, id),
        Err(VaultError::PermitRequired { .. })
    ));
    assert!(matches!(
        vault.reader(&permit, id),
        Err(VaultError::PermitRequired { .. })
    ));
    assert!(matches!(
        vault.owner_permit(id, Action::Read),
        Err(VaultError::PermitRequired { .. })
    ));
    assert_eq!(vault.bundle_hash().unwrap(), Some(Bundle::core().hash()));
    // Neither does deleting files or putting back the keystore of before.
    fs::write(vault.inner.paths.keystore(), old).unwrap();
    assert!(Vault::open(vault.path(), &provider()).is_err());
}

#[test]
fn consent_withdrawn_between_batches_revokes_the_permit() {
    let (_dir, vault, engine, id, _, index) = governed();
    let request = ask(&vault, id, &["label"]);
    let permit = authorize(&vault, &engine, &request).unwrap();
    let reader = vault.records(&permit, id).unwrap();
    let mut out = [0];
    reader.read_rows(&[0], &mut out).unwrap();
    // By another process, through its own handle.
    let other = Vault::open(vault.path(), &provider()).unwrap();
    other
        .consent()
        .unwrap()
        .withdraw(index.subjects[0], "research")
        .unwrap();
    let error = reader.read_rows(&[0], &mut out).unwrap_err();
    assert!(
        matches!(error, VaultError::Permit(PermitError::Revoked { .. })),
        "{error}"
    );
    assert_eq!(out, [0]);
    // The new decision leaves that row out.
    let permit = authorize(&vault, &engine, &request).unwrap();
    let reader = vault.records(&permit, id).unwrap();
    assert!(!reader.rows().contains(0) && reader.rows().contains(4));
}

#[test]
fn a_permit_expires_between_batches() {
    let (_dir, vault, engine, id, ..) = governed();
    let request = Request {
        valid_for: Duration::from_millis(300),
        ..ask(&vault, id, &["label"])
    };
    let permit = authorize(&vault, &engine, &request).unwrap();
    let reader = vault.records(&permit, id).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let error = reader.read_rows(&[0], &mut [0]).unwrap_err();
    assert!(
        matches!(error, VaultError::Permit(PermitError::Expired { .. })),
        "{error}"
    );
}

#[test]
fn a_permit_of_another_bundle_opens_nothing() {
    let (_dir, vault, _, id, ..) = governed();
    let core = Bundle::core();
    let lax = format!("{}\n// lax", core.policies());
    let Ok(other) = Bundle::parse("other", core.schema(), &[("all.cedar", &lax)]) else {
        panic!("the core policies parse under another name")
    };
    assert_ne!(other.hash(), core.hash());
    let engine = Engine::new(other).unwrap();
    let permit = authorize(&vault, &engine, &ask(&vault, id, &["label"])).unwrap();
    assert!(matches!(
        vault.records(&permit, id),
        Err(VaultError::PermitRequired { .. })
    ));
}
