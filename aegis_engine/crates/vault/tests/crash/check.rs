//! What may be left of an operation that was killed: the old state or the new one.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use aegis_policy::Action;
use aegis_vault::{FsckOptions, LogTrust, Meta, Provider, Vault, VaultError};
use uuid::Uuid;

use crate::material::{content, key, large};
use crate::on_sets as sets;
use crate::scene::Scene;

/// Which of the two it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Old,
    New,
}

/// Content by name.
type Contents = BTreeMap<String, Vec<u8>>;

fn before(seed: u8) -> Contents {
    let mut all: Contents = (0..3)
        .map(|n| (format!("object {n}"), content(seed, n)))
        .collect();
    all.insert("dataset".to_owned(), vec![seed; 80]);
    all
}

fn after(operation: &str, seed: u8) -> Contents {
    let mut all = before(seed);
    let gone: &[&str] = match operation {
        "shred" => &["object 1"],
        "shred_many" => &["object 1", "dataset"],
        "shred_dataset" => &["dataset"],
        "shred_subject" => &["object 1", "object 2"],
        _ => &[],
    };
    for name in gone {
        all.remove(*name);
    }
    match operation {
        "store" => drop(all.insert("new".to_owned(), large(seed))),
        "many" => {
            all.insert("new".to_owned(), large(seed));
            all.insert("small".to_owned(), b"small".to_vec());
        }
        "write" => drop(all.insert("new".to_owned(), content(seed, 9))),
        "records" => drop(all.insert("new".to_owned(), vec![seed; 80])),
        "erase_person" => drop(all.insert("dataset".to_owned(), vec![seed; 72])),
        "rename" => {
            let same = all.remove("object 1").unwrap();
            all.insert("renamed".to_owned(), same);
        }
        _ => {}
    }
    all
}

fn load(vault: &Vault, id: Uuid) -> Vec<u8> {
    let permit = Arc::new(vault.owner_permit(id, Action::Read).unwrap());
    let reader = vault.reader(&permit, id).unwrap();
    let mut out = vec![0; usize::try_from(reader.len()).unwrap()];
    reader.read_into(0, &mut out, None).unwrap();
    out
}

fn shredded(vault: &Vault, id: Uuid) -> bool {
    matches!(vault.stat(id), Err(VaultError::ObjectShredded { .. }))
}

/// Opens what is left, as the next process would, and checks all of it.
pub fn check(scene: &Scene, operation: &str, what: &str) -> Side {
    let folder = scene.folder();
    let declared = scene.declared();
    if operation == "create" {
        return created(scene, what);
    }
    if sets::OPERATIONS.contains(&operation) {
        return sets::check(scene, operation, what);
    }
    let first = Vault::open(&folder, &key(1));
    if let Err(VaultError::VaultDestroyed { .. }) = first {
        assert_eq!(operation, "destroy", "{what}");
        for gone in ["keystore.akv", "epoch.key", "epoch.key.next"] {
            assert!(!folder.join(gone).exists(), "{what}: {gone}");
        }
        assert_eq!(scene.object_files(), 0, "{what}");
        assert!(scene.leftovers().is_empty(), "{what}");
        let told = events(scene, "destroy");
        assert!(!told.is_empty(), "{what}: a destruction without a record");
        return Side::New;
    }
    assert!(
        operation != "destroy" || !declared,
        "{what}: declared and not destroyed"
    );
    let (first, mine) = if operation == "restore" && first.is_err() {
        let backup = folder.with_extension("backup");
        let again =
            Vault::restore_keystore(&folder, &backup, &key(3), &key(1), LogTrust::default());
        (again, key(1))
    } else {
        one_key(scene, first, operation, what)
    };
    let vault = first.unwrap_or_else(|error| panic!("{what}: {error}"));
    let side = state(&vault, scene, operation, what);
    let new_key = Vault::open(&folder, &key(2)).is_ok();
    assert_eq!(
        new_key,
        operation == "rotate" && side == Side::New,
        "{what}"
    );
    assert!(!declared || side == Side::New, "{what}: forgotten");
    whole(vault, scene, &mine, what);
    if operation == "backup" {
        copies(scene, what);
    }
    side
}

/// A rotation ends with one key that opens, and one that does not.
fn one_key(
    scene: &Scene,
    first: aegis_vault::Result<Vault>,
    operation: &str,
    what: &str,
) -> (aegis_vault::Result<Vault>, Provider) {
    let second = Vault::open(&scene.folder(), &key(2));
    match (&first, &second) {
        (Ok(_), Err(VaultError::WrongKey { .. })) => (first, key(1)),
        (Err(VaultError::WrongKey { .. }), Ok(_)) if operation == "rotate" => (second, key(2)),
        (one, two) => panic!("{what}: {one:?} {two:?}"),
    }
}

/// Names, contents, tombstones, epoch and audit log agree on one side.
fn state(vault: &Vault, scene: &Scene, operation: &str, what: &str) -> Side {
    let all = vault.list().unwrap();
    let found: Contents = all
        .iter()
        .map(|object| (object.name.clone(), load(vault, object.id)))
        .collect();
    assert_eq!(found.len(), all.len(), "{what}: a name twice");
    let (old, new) = (
        found == before(scene.seed),
        found == after(operation, scene.seed),
    );
    assert!(old || new, "{what}: neither the old contents nor the new");
    for object in all.iter().filter(|o| o.attrs.contains_key("aegis.rows")) {
        let rows = vault.dataset(object.id).unwrap().rows as usize;
        assert_eq!(rows * 8, found[&object.name].len(), "{what}");
    }
    let epoch = vault.epoch().unwrap();
    let [object, second, dataset] = scene.ids.map(|id| shredded(vault, id));
    let expected = match operation {
        "shred" => [true, false, false],
        "shred_many" => [true, false, true],
        "shred_dataset" | "reencrypt_dataset" | "erase_person" => [false, false, true],
        "shred_subject" => [true, true, false],
        "reencrypt" => [false, true, false],
        _ => {
            assert_eq!([object, second, dataset], [false; 3], "{what}");
            let ratchets = ["rotate", "renew", "restore"].contains(&operation);
            assert!(epoch == 1 || ratchets, "{what}: epoch {epoch}");
            if operation == "head" {
                let head = vault.head("ledger").unwrap();
                assert!(head.is_none_or(|head| head.count == 2), "{what}");
                return if head.is_none() { Side::Old } else { Side::New };
            }
            if operation == "outgrow" {
                return heads(vault, what);
            }
            return if old && epoch == 1 {
                Side::Old
            } else {
                Side::New
            };
        }
    };
    let side = if [object, second, dataset] == expected {
        Side::New
    } else {
        assert_eq!([object, second, dataset], [false; 3], "{what}: some of it");
        Side::Old
    };
    assert!(if side == Side::New { new } else { old }, "{what}");
    assert_eq!(epoch, if side == Side::New { 2 } else { 1 }, "{what}");
    let secret = fs::read(scene.folder().join("epoch.key")).unwrap();
    assert_eq!(secret != scene.secret, side == Side::New, "{what}: secret");
    if operation.starts_with("shred") && side == Side::New {
        let told = events(scene, "shred").concat();
        for (id, gone) in scene.ids.iter().zip(expected) {
            assert!(!gone || told.contains(&id.to_string()), "{what}: no record");
        }
    }
    side
}

/// Commits one after the other: a prefix of them is there.
fn heads(vault: &Vault, what: &str) -> Side {
    let name = |n: usize| format!("{n} {}", "x".repeat(1000));
    let there: Vec<bool> = (2..40)
        .map(|n| vault.head(&name(n)).unwrap().is_some())
        .collect();
    let count = there.iter().filter(|is| **is).count();
    assert!(
        there[..count].iter().all(|is| *is),
        "{what}: a commit in between is lost"
    );
    if count == 0 { Side::Old } else { Side::New }
}

/// Every byte authentic, nothing left over, and the vault goes on.
pub fn whole(vault: Vault, scene: &Scene, mine: &Provider, what: &str) {
    let folder = scene.folder();
    let verified = vault.verify_all(None).unwrap();
    assert!(verified.iter().all(|(_, result)| result.is_ok()), "{what}");
    assert_eq!(scene.object_files(), verified.len(), "{what}: orphans");
    let left = scene.leftovers();
    assert!(left.is_empty(), "{what}: {left:?}");
    assert!(scene.modes_are_private(), "{what}");
    drop(vault);
    let report = Vault::fsck(&folder, mine, FsckOptions::default()).unwrap();
    assert!(report.clean(), "{what}: {:?}", report.findings);
    assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
    let vault = Vault::open(&folder, mine).unwrap();
    let next = vault.store_bytes(b"next", Meta::named("next")).unwrap();
    let vault = Vault::open(&folder, mine).unwrap();
    assert_eq!(load(&vault, next), b"next", "{what}");
}

/// A backup that opens is on record; one that was torn does not open.
fn copies(scene: &Scene, what: &str) {
    let twin = scene.again();
    let (folder, backup) = (twin.folder(), twin.folder().with_extension("backup"));
    let known = Vault::open(&folder, &key(1))
        .unwrap()
        .shred_subject("person", None)
        .unwrap()
        .copies;
    if !backup.exists() {
        return;
    }
    match Vault::restore_keystore(&folder, &backup, &key(3), &key(1), LogTrust::default()) {
        Ok(vault) => {
            assert_eq!(known.len(), 1, "{what}: a copy that no receipt names");
            assert!(shredded(&vault, scene.ids[0]), "{what}");
        }
        Err(VaultError::KeystoreCorrupt { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
    }
}

fn created(scene: &Scene, what: &str) -> Side {
    let folder = scene.folder();
    let (vault, side) = match Vault::open(&folder, &key(1)) {
        Ok(vault) => (vault, Side::New),
        Err(VaultError::NotAVault { .. } | VaultError::NotFound { .. }) => {
            let vault = Vault::create(&folder, &key(1));
            (vault.unwrap_or_else(|e| panic!("{what}: {e}")), Side::Old)
        }
        Err(other) => panic!("{what}: {other}"),
    };
    whole(vault, scene, &key(1), what);
    side
}

/// The audit records of that event, as text.
fn events(scene: &Scene, event: &str) -> Vec<String> {
    aegis_audit::read(&scene.folder().join("audit"))
        .unwrap()
        .map(|record| record.unwrap().body)
        .filter(|body| body["event"] == event)
        .map(|body| body.to_string())
        .collect()
}
