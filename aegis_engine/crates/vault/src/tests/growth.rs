//! The keystore as it grows: changes behind a base, cuts, mixtures, other processes, heads.

use std::collections::BTreeMap;

use super::*;
use crate::{FsckOptions, Item, LogTrust, StoreOptions, VaultError};

fn keystore(path: &Path) -> std::path::PathBuf {
    path.join("keystore.akv")
}

fn names(vault: &Vault) -> Vec<String> {
    let mut all: Vec<String> = vault.list().unwrap().into_iter().map(|o| o.name).collect();
    all.sort();
    all
}

fn named(vault: &Vault, name: &str) -> Uuid {
    vault
        .store_bytes(name.as_bytes(), Meta::named(name))
        .unwrap()
}

#[test]
fn a_store_appends_to_the_keystore_and_leaves_what_was_there() {
    let (_dir, vault) = vault();
    let file = keystore(vault.path());
    named(&vault, "first");
    let before = fs::read(&file).unwrap();
    named(&vault, "second");
    let after = fs::read(&file).unwrap();
    assert!(after.starts_with(&before) && after.len() - before.len() < 512);
    vault
        .rename(vault.list().unwrap()[0].id, "renamed")
        .unwrap();
    let renamed = fs::read(&file).unwrap();
    assert!(renamed.starts_with(&after));
    let again = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(names(&again), names(&vault));
}

#[test]
fn changes_that_outgrow_the_base_become_a_base() {
    let (_dir, vault) = vault();
    let file = keystore(vault.path());
    let (mut longest, mut bases, mut last) = (0, 0, 0);
    for n in 0..400_u64 {
        vault.commit_head("ledger", n + 1, [7; 32]).unwrap();
        let length = fs::metadata(&file).unwrap().len();
        bases += u32::from(length < last);
        longest = longest.max(length);
        last = length;
    }
    assert!(
        bases >= 1 && longest < 80_000,
        "{bases} bases, {longest} bytes"
    );
    let again = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(again.head("ledger").unwrap().unwrap().count, 400);
}

#[test]
fn after_a_shred_neither_the_old_base_nor_its_changes_open() {
    let (_dir, vault) = vault();
    let gone = named(&vault, "gone");
    named(&vault, "kept");
    let old = fs::read(keystore(vault.path())).unwrap();
    vault.shred(gone, None).unwrap();
    drop(vault.clone());
    let now = fs::read(keystore(vault.path())).unwrap();
    assert!(
        !now.windows(16)
            .any(|window| old[300..].windows(16).step_by(97).any(|w| w == window))
    );
    fs::write(keystore(vault.path()), &old).unwrap();
    let error = Vault::open(vault.path(), &provider()).unwrap_err();
    assert!(matches!(
        error,
        VaultError::KeystoreRollback { .. } | VaultError::KeyDestroyed { .. }
    ));
    // Nor with the public file put back as well.
    let about = vault.inner.paths.about();
    let text = fs::read_to_string(&about)
        .unwrap()
        .replace("\"epoch\": 2", "\"epoch\": 1");
    fs::write(&about, text).unwrap();
    let error = Vault::open(vault.path(), &provider()).unwrap_err();
    assert!(matches!(error, VaultError::KeyDestroyed { .. }), "{error}");
}

#[test]
fn a_cut_at_any_byte_of_the_changes_is_found_at_opening() {
    let (dir, vault) = vault();
    let path = vault.path().to_path_buf();
    let base = fs::metadata(keystore(&path)).unwrap().len();
    named(&vault, "a");
    named(&vault, "b");
    vault.commit_head("ledger/0", 3, [1; 32]).unwrap();
    drop(vault);
    let whole = fs::read(keystore(&path)).unwrap();
    let log = fs::read(path.join("audit/000001.log")).unwrap();
    let copy = dir.path().join("copy");
    copy_tree(&path, &copy);
    for len in usize::try_from(base).unwrap()..whole.len() {
        fs::write(keystore(&copy), &whole[..len]).unwrap();
        let error = Vault::open(&copy, &provider()).unwrap_err();
        assert!(
            ["AEG-V035", "AEG-V016"].contains(&error.code()),
            "{len}: {error}"
        );
        assert_eq!(fs::read(copy.join("audit/000001.log")).unwrap(), log);
    }
    fs::write(keystore(&copy), &whole).unwrap();
    assert_eq!(names(&Vault::open(&copy, &provider()).unwrap()), ["a", "b"]);
}

#[test]
fn every_byte_of_a_keystore_with_changes_is_authenticated() {
    let (dir, vault) = vault();
    let path = vault.path().to_path_buf();
    named(&vault, "a");
    named(&vault, "b");
    drop(vault);
    let whole = fs::read(keystore(&path)).unwrap();
    let copy = dir.path().join("copy");
    copy_tree(&path, &copy);
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(keystore(&copy), &bad).unwrap();
        assert!(Vault::open(&copy, &provider()).is_err(), "byte {at}");
    }
}

#[test]
fn a_torn_change_was_not_committed_and_the_next_commit_goes_on() {
    let (_dir, vault) = vault();
    named(&vault, "a");
    let whole = fs::read(keystore(vault.path())).unwrap();
    // What a crash in an append leaves: nobody was told, so the log knows of no generation.
    for tail in [vec![0; 1], vec![0; 400], vec![9; 30], {
        let mut header = 400_u32.to_le_bytes().to_vec();
        header.resize(200, 3);
        header[4..8].fill(0);
        header
    }] {
        let mut torn = fs::read(keystore(vault.path())).unwrap();
        torn.extend_from_slice(&tail);
        fs::write(keystore(vault.path()), &torn).unwrap();
        let other = Vault::open(vault.path(), &provider()).unwrap();
        assert!(names(&other).contains(&"a".to_owned()));
        let before = names(&other).len();
        named(&other, &format!("next {before}"));
        // A new base: the torn bytes are not kept, and no nonce could have been used twice.
        let now = fs::read(keystore(vault.path())).unwrap();
        assert!(!now.starts_with(&whole[..252]));
        assert_eq!(names(&vault).len(), before + 1);
    }
}

#[test]
fn changes_of_another_history_do_not_follow() {
    let (dir, vault) = vault();
    let path = vault.path().to_path_buf();
    named(&vault, "a");
    let fork = dir.path().join("fork");
    copy_tree(&path, &fork);
    let start = fs::metadata(keystore(&path)).unwrap().len();
    let start = usize::try_from(start).unwrap();
    named(&vault, "here");
    named(&vault, "here too");
    let other = Vault::open(&fork, &provider()).unwrap();
    named(&other, "there");
    named(&other, "there too");
    let (ours, theirs) = (
        fs::read(keystore(&path)).unwrap(),
        fs::read(keystore(&fork)).unwrap(),
    );
    let half = |bytes: &[u8]| {
        let length = u32::from_le_bytes(bytes[start..start + 4].try_into().unwrap());
        start + 48 + length as usize
    };
    let mixed = [&ours[..half(&ours)], &theirs[half(&theirs)..]].concat();
    fs::write(keystore(&path), mixed).unwrap();
    let error = Vault::open(&path, &provider()).unwrap_err();
    assert_eq!(error.code(), "AEG-V016", "{error}");
}

#[test]
fn another_handle_reads_only_what_was_appended() {
    let (_dir, vault) = vault();
    let reader = Vault::open(vault.path(), &provider()).unwrap();
    for n in 0..5 {
        named(&vault, &format!("{n}"));
        assert_eq!(names(&reader).len(), n + 1);
    }
    let gone = vault.list().unwrap()[0].id;
    vault.shred(gone, None).unwrap();
    assert_eq!(names(&reader).len(), 4);
    named(&reader, "by the other");
    assert_eq!(names(&vault), names(&reader));
    vault.rotate(None).unwrap();
    assert_eq!(names(&reader).len(), 5);
}

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
fn many_objects_appear_in_one_commit_or_not_at_all() {
    let (dir, vault) = vault();
    let file = dir.path().join("a.csv");
    fs::write(&file, b"1,2\n").unwrap();
    let large = vec![3; (1 << 20) + 5];
    let empty = dir.path().join("empty");
    fs::write(&empty, b"").unwrap();
    let items = [
        (Item::File(&file), Meta::named("")),
        (Item::Bytes(b"bytes"), Meta::named("b")),
        (Item::Bytes(&large), Meta::named("large")),
        (Item::File(&empty), Meta::named("")),
    ];
    let generation = vault.inner.known().generation;
    let ids = vault.store_many(&items, StoreOptions::default()).unwrap();
    assert_eq!(vault.inner.known().generation, generation + 1);
    assert_eq!(vault.stat(ids[0]).unwrap().name, "a.csv");
    let texts: Vec<Vec<u8>> = ids.iter().map(|id| load(&vault, *id).unwrap()).collect();
    assert_eq!(texts[0], b"1,2\n");
    assert_eq!(texts[1], b"bytes");
    assert_eq!((&texts[2], texts[3].len()), (&large, 0));
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
    let missing = dir.path().join("missing");
    let bad = [
        (Item::Bytes(b"c"), Meta::named("c")),
        (Item::File(&missing), Meta::named("")),
    ];
    assert!(vault.store_many(&bad, StoreOptions::default()).is_err());
    let verify = StoreOptions {
        verify: true,
        ..StoreOptions::default()
    };
    let twins = [
        (Item::Bytes(b"1"), Meta::named("twin")),
        (Item::Bytes(b"2"), Meta::named("twin")),
    ];
    vault.store_many(&twins, StoreOptions::default()).unwrap();
    let others = [
        (Item::File(&file), Meta::named("other")),
        (Item::Bytes(b"bytes"), Meta::named("another")),
    ];
    vault.store_many(&others, verify).unwrap();
    assert_eq!(names(&vault).len(), 8);
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
    let report = Vault::fsck(vault.path(), &provider(), FsckOptions::default()).unwrap();
    assert!(
        report.clean() && report.findings.is_empty(),
        "{:?}",
        report.findings
    );
}

#[test]
fn a_failed_store_of_many_leaves_nothing() {
    for point in [
        "many.renamed",
        "many.logged",
        "change.torn",
        "change.written",
    ] {
        let (_dir, vault) = vault();
        let items = [
            (Item::Bytes(b"1"), Meta::named("1")),
            (Item::Bytes(b"2"), Meta::named("2")),
        ];
        crate::system::failpoint::arm(Some(point));
        let failed = vault.store_many(&items, StoreOptions::default());
        crate::system::failpoint::arm(None);
        assert!(failed.is_err(), "{point}");
        let again = Vault::open(vault.path(), &provider()).unwrap();
        assert!(names(&again).is_empty(), "{point}");
        let report = Vault::fsck(again.path(), &provider(), FsckOptions::default()).unwrap();
        assert!(report.findings.is_empty(), "{point}: {:?}", report.findings);
    }
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

/// What a vault must hold.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    objects: BTreeMap<Uuid, String>,
    heads: BTreeMap<String, u64>,
}

fn held(vault: &Vault) -> Model {
    Model {
        objects: vault
            .list()
            .unwrap()
            .into_iter()
            .map(|o| (o.id, o.name))
            .collect(),
        heads: vault
            .inner
            .current()
            .unwrap()
            .body
            .heads
            .iter()
            // The consent ledger's is there from the start.
            .filter(|(name, _)| *name != "consent")
            .map(|(name, head)| (name.clone(), head.count))
            .collect(),
    }
}

#[test]
fn random_operations_leave_what_a_model_holds_and_every_cut_an_earlier_state() {
    let mut random = noise(4000).into_iter();
    let mut draw = |below: u8| random.next().unwrap() % below;
    for round in 0..4 {
        let (dir, vault) = vault();
        let path = vault.path().to_path_buf();
        let mut model = Model::default();
        // The length of the keystore after each commit to the present base, and what it held.
        let mut states: Vec<(u64, Model)> = Vec::new();
        for n in 0..40_u64 {
            let some = model.objects.keys().nth(usize::from(draw(16))).copied();
            match (draw(10), some) {
                (0..=3, _) | (4..=5, None) => {
                    let name = format!("{round}.{n}");
                    model.objects.insert(named(&vault, &name), name);
                }
                (4, Some(id)) => {
                    let name = format!("renamed {n}");
                    vault.rename(id, &name).unwrap();
                    model.objects.insert(id, name);
                }
                (5, Some(id)) if n % 3 == 0 => {
                    vault.shred(id, None).unwrap();
                    model.objects.remove(&id);
                    states.clear();
                }
                (6, _) => {
                    let items: Vec<_> = (0..3)
                        .map(|k| (Item::Bytes(b"many"), Meta::named(format!("{n}/{k}"))))
                        .collect();
                    let ids = vault.store_many(&items, StoreOptions::default()).unwrap();
                    for (id, (_, meta)) in ids.into_iter().zip(items) {
                        model.objects.insert(id, meta.name);
                    }
                }
                (7, _) if n % 4 == 0 => {
                    vault.rotate(None).unwrap();
                    states.clear();
                }
                _ => {
                    let name = format!("ledger {}", draw(3));
                    let count = model.heads.entry(name.clone()).or_default();
                    *count += 1;
                    vault.commit_head(&name, *count, [9; 32]).unwrap();
                }
            }
            states.push((fs::metadata(keystore(&path)).unwrap().len(), model.clone()));
            assert_eq!(held(&vault), model);
        }
        assert_eq!(held(&Vault::open(&path, &provider()).unwrap()), model);
        // Read without the log, which would tell of the cut: exactly the states that were committed.
        let whole = fs::read(keystore(&path)).unwrap();
        let first = usize::try_from(states[0].0).unwrap();
        let layout = Paths::new(&path);
        let (_, envelope) = crate::vault::state::keystore(&layout, vault.id()).unwrap();
        let auth = Arc::new(crate::keys::auth::Auth::of(&envelope, &provider(), &path).unwrap());
        for len in (first..=whole.len()).step_by(7).chain([whole.len()]) {
            fs::write(keystore(&path), &whole[..len]).unwrap();
            let (state, _) = crate::vault::state::State::load(&layout, vault.id(), &auth).unwrap();
            let expected = states.iter().rfind(|(end, _)| *end <= len as u64).unwrap();
            let objects: Vec<Uuid> = state.body.records().map(|r| r.object).collect();
            let wanted: Vec<Uuid> = expected.1.objects.keys().copied().collect();
            assert_eq!(objects, wanted, "cut at {len}");
            let heads = state.body.heads.iter().filter(|(n, _)| *n != "consent");
            let heads = heads.map(|(n, h)| (n.clone(), h.count));
            assert_eq!(
                heads.collect::<BTreeMap<_, _>>(),
                expected.1.heads,
                "cut at {len}"
            );
        }
        drop(dir);
    }
}
