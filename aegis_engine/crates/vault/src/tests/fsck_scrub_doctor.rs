//! fsck, scrub, doctor.

use super::*;
use crate::{Finding, FsckOptions, VaultError};

fn check(path: &Path, repair: bool) -> crate::FsckReport {
    let options = FsckOptions {
        repair,
        ..FsckOptions::default()
    };
    Vault::fsck(path, &provider(), options).unwrap()
}

/// The damage is found, stays without `repair`, and is mended with it, after which the check is clean.
fn mended(vault: &Vault, place: &str) -> Finding {
    let path = vault.path();
    for _ in 0..2 {
        let report = check(path, false);
        assert!(!report.clean(), "{place}");
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.place == place && !f.repaired),
            "{report:?}"
        );
    }
    let report = check(path, true);
    assert!(report.clean(), "{report:?}");
    assert!(check(path, false).findings.is_empty(), "{place}");
    report
        .findings
        .into_iter()
        .find(|f| f.place == place)
        .unwrap()
}

#[test]
fn a_sound_vault_has_no_findings() {
    let (_dir, vault) = vault();
    store(&vault, &noise(9000));
    store(&vault, b"");
    let report = check(vault.path(), false);
    assert!(report.clean() && report.findings.is_empty(), "{report:?}");
    assert_eq!(report.objects, 2);
}

#[test]
fn a_lost_or_damaged_vault_json_is_rebuilt_from_the_keystore() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    vault.rotate(None).unwrap();
    for damage in [
        None,
        Some("{"),
        Some("{\"format\":\"aegis-vault\",\"version\":1}"),
    ] {
        match damage {
            None => fs::remove_file(vault.inner.paths.about()).unwrap(),
            Some(text) => fs::write(vault.inner.paths.about(), text).unwrap(),
        }
        let report = check(vault.path(), false);
        assert!(!report.opened && !report.findings.is_empty());
        let report = check(vault.path(), true);
        assert!(report.clean(), "{report:?}");
        assert_eq!(
            load(&Vault::open(vault.path(), &provider()).unwrap(), id).unwrap(),
            b"x"
        );
    }
}

#[test]
fn leftovers_of_a_crash_are_removed_and_lax_modes_tightened() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, vault) = vault();
    // These go whenever a vault is opened, which is how a check begins.
    for place in ["epoch.key.tmp", "keystore.akv.tmp", "vault.json.tmp"] {
        fs::write(vault.path().join(place), b"torn").unwrap();
        let report = check(vault.path(), place == "vault.json.tmp");
        let found = report.findings.iter().find(|f| f.place == place).unwrap();
        assert!(found.repaired && report.clean(), "{report:?}");
        assert!(!vault.path().join(place).exists());
        assert!(check(vault.path(), false).findings.is_empty());
    }
    fs::set_permissions(
        vault.inner.paths.epoch_key(),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    assert!(mended(&vault, "epoch.key").action.contains("600"));
    let tmp = vault.inner.paths.object_tmp(Uuid::new_v4());
    fs::create_dir_all(tmp.parent()).unwrap();
    fs::write(&tmp, b"half").unwrap();
    let place = tmp
        .path()
        .strip_prefix(vault.path())
        .unwrap()
        .display()
        .to_string();
    mended(&vault, &place);
}

#[test]
fn bytes_after_the_end_are_cut_off_only_when_every_chunk_is_whole() {
    let (_dir, vault) = vault();
    let id = store(&vault, &noise(9000));
    let path = vault.inner.paths.object(id);
    let good = fs::read(&path).unwrap();
    let place = path
        .path()
        .strip_prefix(vault.path())
        .unwrap()
        .display()
        .to_string();
    let mut longer = good.clone();
    longer.extend_from_slice(b"trailing");
    fs::write(&path, &longer).unwrap();
    assert_eq!(mended(&vault, &place).object, Some(id));
    assert_eq!(fs::read(&path).unwrap(), good);
    longer[5000] ^= 1;
    fs::write(&path, &longer).unwrap();
    let report = check(vault.path(), true);
    assert!(!report.clean());
    assert_eq!(fs::read(&path).unwrap(), longer, "made worse");
}

#[test]
fn each_damaged_object_is_named_and_left_as_it_is() {
    let (_dir, vault) = vault();
    let (a, b) = (store(&vault, &noise(5000)), store(&vault, &noise(5000)));
    let whole = store(&vault, b"whole");
    fs::remove_file(vault.inner.paths.object(a)).unwrap();
    let path = vault.inner.paths.object(b);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let report = check(vault.path(), true);
    let mut named: Vec<Uuid> = report.findings.iter().filter_map(|f| f.object).collect();
    named.sort();
    let mut expected = vec![a, b];
    expected.sort();
    assert_eq!(named, expected);
    assert!(!report.clean());
    assert_eq!(load(&vault, whole).unwrap(), b"whole");
}

#[test]
fn unknown_files_go_to_lost_and_found_and_shredded_ciphertext_goes() {
    let (_dir, vault) = vault();
    let gone = store(&vault, b"x");
    let path = vault.inner.paths.object(gone);
    let bytes = fs::read(&path).unwrap();
    vault.shred(gone, None).unwrap();
    fs::write(&path, &bytes).unwrap();
    let place = path
        .path()
        .strip_prefix(vault.path())
        .unwrap()
        .display()
        .to_string();
    mended(&vault, &place);
    assert!(!path.exists());
    let stranger = vault.inner.paths.object(Uuid::new_v4());
    fs::create_dir_all(stranger.parent()).unwrap();
    fs::write(&stranger, &bytes).unwrap();
    let place = stranger
        .path()
        .strip_prefix(vault.path())
        .unwrap()
        .display()
        .to_string();
    mended(&vault, &place);
    let kept = vault.path().join("lost+found").join(stranger.file_name());
    assert_eq!(fs::read(kept).unwrap(), bytes);
}

#[test]
fn a_forged_intent_is_set_aside() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    fs::write(vault.inner.paths.shred_intent(id), b"{}").unwrap();
    let place = format!("journal/{id}.shred");
    mended(&vault, &place);
    assert_eq!(load(&vault, id).unwrap(), b"x");
}

#[test]
fn a_lost_keystore_is_a_finding_and_an_older_one_is_taken_only_on_request() {
    let (_dir, vault) = vault();
    let old = fs::read(vault.inner.paths.keystore()).unwrap();
    store(&vault, b"x");
    fs::write(vault.inner.paths.keystore(), &old).unwrap();
    let report = check(vault.path(), true);
    assert!(!report.opened);
    assert!(
        report.findings[0]
            .action
            .contains("--accept-older-keystore")
    );
    let options = FsckOptions {
        repair: true,
        accept_older_keystore: true,
    };
    let report = Vault::fsck(vault.path(), &provider(), options).unwrap();
    assert!(report.clean(), "{report:?}");
    assert_eq!(
        report.findings.len(),
        1,
        "the object stored since has no key any more"
    );
    fs::remove_file(vault.inner.paths.keystore()).unwrap();
    let report = check(vault.path(), true);
    assert_eq!((report.opened, report.findings.len()), (false, 1));
}

#[test]
fn a_wrong_key_is_an_error_not_a_finding() {
    let (_dir, vault) = vault();
    let wrong = Provider::raw(&[1; 32]).unwrap();
    let options = FsckOptions {
        repair: true,
        ..FsckOptions::default()
    };
    assert!(matches!(
        Vault::fsck(vault.path(), &wrong, options),
        Err(VaultError::WrongKey { .. })
    ));
}

#[test]
fn a_scrub_names_the_damaged_object_and_goes_on() {
    let (_dir, vault) = vault();
    let ids: Vec<Uuid> = (0..3).map(|_| store(&vault, &noise(20_000))).collect();
    let path = vault.inner.paths.object(ids[1]);
    let mut bytes = fs::read(&path).unwrap();
    for chunk in 0..5 {
        bytes[4096 + chunk * 4112 + 9] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    for sample in [1.0, 0.01] {
        let mut told = 0;
        let report = vault
            .scrub(sample, Some(&mut |done, all, _| told = done * 10 + all))
            .unwrap();
        assert_eq!((report.objects, told), (3, 33));
        assert_eq!(report.damaged.len(), 1, "{sample}");
        assert_eq!(
            (report.damaged[0].object, report.damaged[0].code),
            (ids[1], "AEG-V009")
        );
        assert_eq!(report.chunks_in_all, 15);
        assert!(report.chunks >= 2 && report.chunks <= 10);
    }
    for bad in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(vault.scrub(bad, None).is_err());
    }
}

#[test]
fn the_doctor_says_which_level_a_shred_reaches() {
    let (_dir, vault) = vault();
    let facts = crate::doctor(vault.path());
    let level = facts
        .iter()
        .find(|fact| fact.topic == "shred level")
        .unwrap();
    assert_eq!(level.found, vault.shred_level().name());
    assert!(level.risk.is_some());
    assert!(facts.iter().any(|fact| fact.topic == "swap"));
    // Also for a folder that is no vault, and for none.
    assert!(!crate::doctor(Path::new("/nonexistent")).is_empty());
}
