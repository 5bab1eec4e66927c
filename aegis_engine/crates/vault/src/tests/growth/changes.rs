//! Commits append to the keystore: every byte is authenticated, and a cut is found.

use super::*;

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
