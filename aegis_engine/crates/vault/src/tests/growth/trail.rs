//! Heads, proofs and the records of the engine: what leads a vault forward, and what does not.

use super::*;

#[test]
fn heads_only_grow_and_survive_everything() {
    let (dir, vault) = vault();
    assert_eq!(vault.head("ledger/0").unwrap(), None);
    vault.commit_head("ledger/0", 2, [2; 32]).unwrap();
    vault.commit_head("ledger/0", 1, [1; 32]).unwrap();
    vault.commit_head("ledger/0", 2, [2; 32]).unwrap();
    let forked = vault.commit_head("ledger/0", 2, [3; 32]).unwrap_err();
    assert_eq!(forked.code(), "AEG-V081");
    for bad in ["", "a\nb", &"x".repeat(1025)] {
        let error = vault.commit_head(bad, 1, [0; 32]).unwrap_err();
        assert_eq!(error.code(), "AEG-V023");
    }
    vault.commit_head("ledger/1", 7, [7; 32]).unwrap();
    vault.rotate(None).unwrap();
    let recovery = Provider::raw(&[5; 32]).unwrap();
    let backup = dir.path().join("backup");
    vault.backup_keystore(&backup, &recovery).unwrap();
    let path = vault.path().to_path_buf();
    drop(vault);
    fs::remove_file(keystore(&path)).unwrap();
    let vault =
        Vault::restore_keystore(&path, &backup, &recovery, &provider(), LogTrust::default())
            .unwrap();
    let head = vault.head("ledger/0").unwrap().unwrap();
    assert_eq!((head.count, head.mac), (2, [2; 32]));
    assert_eq!(vault.head("ledger/1").unwrap().unwrap().count, 7);
}

#[test]
fn a_forged_generation_neither_closes_the_vault_nor_leads_the_counter_away() {
    let (_dir, vault) = vault();
    named(&vault, "a");
    for generation in [3_u64, 99, 1 << 40, 1 << 63, u64::MAX] {
        let body = serde_json::json!({"event": "keystore", "generation": generation, "epoch": 1, "proof": "00"});
        vault.audit().append(&body).unwrap();
    }
    drop(vault.clone());
    let again = Vault::open(vault.path(), &provider()).unwrap();
    named(&again, "b");
    assert!(again.inner.known().generation < 10);
    let report = Vault::fsck(vault.path(), &provider(), FsckOptions::default()).unwrap();
    let told = |finding: &crate::Finding| finding.damage.contains("without a proof");
    assert!(report.findings.iter().any(told), "{:?}", report.findings);
}

#[test]
fn a_restored_older_backup_is_governed_as_the_log_proves() {
    let (dir, vault) = vault();
    let object = named(&vault, "a");
    let recovery = Provider::raw(&[5; 32]).unwrap();
    let backup = dir.path().join("backup");
    vault.backup_keystore(&backup, &recovery).unwrap();
    vault.govern(&aegis_policy::Bundle::core()).unwrap();
    let path = vault.path().to_path_buf();
    drop(vault);
    let vault =
        Vault::restore_keystore(&path, &backup, &recovery, &provider(), LogTrust::default())
            .unwrap();
    assert!(vault.bundle_hash().unwrap().is_some());
    let refused = vault.owner_permit(object, Action::Read).unwrap_err();
    assert_eq!(refused.code(), "AEG-V021");
}

#[test]
fn a_govern_record_without_a_proof_stops_a_restore_until_it_is_accepted() {
    let (dir, vault) = vault();
    let recovery = Provider::raw(&[5; 32]).unwrap();
    let backup = dir.path().join("backup");
    vault.backup_keystore(&backup, &recovery).unwrap();
    let forged = serde_json::json!({"event": "govern", "bundle": "ab".repeat(32), "previous": null, "epoch": 2});
    vault.audit().append(&forged).unwrap();
    let path = vault.path().to_path_buf();
    drop(vault);
    let restore = |accept_lost| {
        let trust = LogTrust {
            accept_lost,
            ..LogTrust::default()
        };
        Vault::restore_keystore(&path, &backup, &recovery, &provider(), trust)
    };
    assert_eq!(restore(false).unwrap_err().code(), "AEG-V018");
    assert_eq!(restore(true).unwrap().bundle_hash().unwrap(), None);
}

#[test]
fn records_take_no_name_or_field_of_the_engine() {
    use aegis_audit::{Event, event::RESERVED_FIELDS};
    let (_dir, vault) = vault();
    let facts = || serde_json::Map::from_iter([("n".to_owned(), 1.into())]);
    for event in Event::ALL {
        for name in [event.name().to_owned(), format!("{}.x", event.name())] {
            let error = vault.record(&name, facts()).unwrap_err();
            assert_eq!(error.code(), "AEG-V023", "{name}");
            assert_eq!(
                vault.record_plugin(&name, facts()).unwrap_err().code(),
                "AEG-V023"
            );
        }
    }
    for name in ["privacy.reserve", "ingest.finished"] {
        assert_eq!(vault.record(name, facts()).unwrap_err().code(), "AEG-V023");
        vault.record_plugin(name, facts()).unwrap();
    }
    for field in RESERVED_FIELDS {
        let facts = serde_json::Map::from_iter([((*field).to_owned(), 1.into())]);
        let error = vault.record("app.note", facts).unwrap_err();
        assert_eq!(error.code(), "AEG-V023", "{field}");
    }
    for name in ["", "a\nb", &"x".repeat(257)] {
        assert_eq!(vault.record(name, facts()).unwrap_err().code(), "AEG-V023");
    }
    vault.record("app.note", facts()).unwrap();
    assert!(Vault::open(vault.path(), &provider()).is_ok());
}

#[test]
fn no_writer_of_the_engine_names_an_event_by_itself() {
    fn check(folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    check(&path);
                }
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for (number, line) in code.lines().enumerate() {
                let named = line.contains("\"event\": \"") && !line.trim_start().starts_with("//");
                assert!(!named, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in ["vault", "audit", "policy", "python"] {
        check(&crates.join(name).join("src"));
    }
}

#[test]
fn an_opening_verifies_what_it_has_not_seen_and_no_more() {
    let (_dir, vault) = vault();
    named(&vault, "a");
    let log = vault.path().join("audit/000001.log");
    let facts = || serde_json::Map::from_iter([("pad".to_owned(), "x".repeat(1000).into())]);
    for _ in 0..1100 {
        vault.record("app.note", facts()).unwrap();
    }
    let remembered = |vault: &Vault| vault.inner.known().body.audit.end;
    let before = remembered(&vault);
    let again = Vault::open(vault.path(), &provider()).unwrap();
    assert!(
        remembered(&again) > before + (1 << 20),
        "a long tail is remembered"
    );
    let whole = fs::read(&log).unwrap();
    // Long ago: the full check finds it, the opening does not look there.
    let mut bad = whole.clone();
    bad[500] ^= 1;
    fs::write(&log, &bad).unwrap();
    Vault::open(vault.path(), &provider()).unwrap();
    let report = Vault::fsck(vault.path(), &provider(), FsckOptions::default()).unwrap();
    assert!(!report.clean());
    // What is remembered, and what came after it.
    let whole = fs::read(&log).unwrap();
    let place = usize::try_from(remembered(&again)).unwrap();
    for at in [place - 5, whole.len() - 5, place + 70] {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(&log, &bad).unwrap();
        assert!(Vault::open(vault.path(), &provider()).is_err(), "byte {at}");
    }
    fs::write(&log, &whole[..place - 100]).unwrap();
    let error = Vault::open(vault.path(), &provider()).unwrap_err();
    assert!(["AEG-V018", "AEG-V034"].contains(&error.code()), "{error}");
}

#[test]
fn proofs_are_of_one_domain_and_one_vault() {
    let ((_a, one), (_b, other)) = (vault(), vault());
    let proof = one.proof("consent", b"data").unwrap();
    assert!(one.check_proof("consent", b"data", &proof).unwrap());
    assert!(!one.check_proof("ledger", b"data", &proof).unwrap());
    assert!(!one.check_proof("consent", b"date", &proof).unwrap());
    assert!(!one.check_proof("consent", b"data", &proof[..31]).unwrap());
    assert!(!other.check_proof("consent", b"data", &proof).unwrap());
    assert_ne!(one.mac("consent", b"data").unwrap(), proof);
    one.rotate(None).unwrap();
    assert!(one.check_proof("consent", b"data", &proof).unwrap());
}
