//! What a steward, a node and the people do with one table and its holdout at the same time, by two processes and by two threads
//! of one. Whoever comes second works on what the first one left, or is told that it is another: nothing is lost, nothing half.
//!
//! `AEGIS_RACE_REPEATS` is how often each pair runs (`make test-crash`: 10 000).

#[path = "bin/material.rs"]
#[allow(dead_code)] // the crash tests use the rest
mod material;
#[path = "bin/sets.rs"]
mod sets;

use std::path::Path;
use std::sync::Barrier;

use aegis_policy::Change;
use aegis_vault::{FsckOptions, Result, Vault, VaultError};
use material::key;
use sets::{ERASED, FIRST, NEXT, PURPOSE, SIDES, Seen, person};
use tempfile::TempDir;

/// Somebody who has rows from the start and withdraws.
const WITHDRAWS: i64 = 5;

/// Whom a second delivery is about.
const AGAIN: std::ops::Range<i64> = ERASED..ERASED + 2;

struct Operation {
    name: &'static str,
    run: fn(&Vault, usize) -> Result<()>,
}

const OPERATIONS: [Operation; 9] = [
    // Each side of a race brings other people.
    Operation {
        name: "extend",
        run: |vault, side| {
            let more = i64::try_from(side).unwrap() * 100;
            sets::extend(
                vault,
                &format!("{side}"),
                NEXT.start + more..NEXT.end + more,
            )
        },
    },
    // Rows of somebody who may be erased at this moment.
    Operation {
        name: "deliver again",
        run: |vault, side| sets::extend(vault, &format!("{side}"), AGAIN),
    },
    Operation {
        name: "amend",
        run: |vault, _| sets::amend(vault),
    },
    Operation {
        name: "drop",
        run: |vault, _| sets::drop_both(vault),
    },
    Operation {
        name: "erase",
        run: |vault, _| vault.erase_person(&person(ERASED), None).map(drop),
    },
    Operation {
        name: "withdraw",
        run: |vault, _| {
            vault
                .change_consent(Change::Withdraw, &[person(WITHDRAWS)], Some(PURPOSE), true)
                .map(drop)
        },
    },
    Operation {
        name: "reencrypt",
        run: |vault, _| {
            vault
                .reencrypt(vault.find_dataset(SIDES[0])?, None)
                .map(drop)
        },
    },
    Operation {
        name: "train",
        run: |vault, _| {
            let rows = sets::read(vault, vault.find_dataset(SIDES[0])?)?;
            let first = sets::numbers_of(SIDES[0], &[FIRST], true);
            let kept: Vec<i64> = rows.iter().copied().filter(|n| *n != ERASED).collect();
            assert!(kept.starts_with(&first), "{kept:?}");
            Ok(())
        },
    },
    Operation {
        name: "look",
        run: |vault, _| {
            for name in SIDES {
                vault.card(vault.find_dataset(name)?)?;
            }
            vault.consent_of(&person(WITHDRAWS)).map(drop)
        },
    },
];

/// What changes the objects: whoever comes second may find that what it read is gone.
const WRITES: [&str; 6] = [
    "extend",
    "deliver again",
    "amend",
    "drop",
    "erase",
    "reencrypt",
];

/// The only ways in which `one` may end beside `other`.
fn honest(one: &Operation, other: &Operation, error: &VaultError) -> bool {
    match error {
        VaultError::ObjectShredded { .. } | VaultError::ObjectNotFound { .. } => {
            // An erasure looks again, a withdrawal does not depend on any object.
            WRITES.contains(&other.name) && !["erase", "withdraw"].contains(&one.name)
        }
        VaultError::BadRequest { what } => {
            what.contains("there is no data set") && other.name == "drop"
        }
        // Nobody has a row any more, or rows come of somebody who is erased.
        VaultError::Policy(inner) => match inner.code() {
            "AEG-P014" => ["drop", "erase"].contains(&other.name),
            "AEG-P016" => one.name == "deliver again" && other.name == "erase",
            _ => false,
        },
        _ => false,
    }
}

struct Scene {
    _dir: TempDir,
    vault: Vault,
    apart: [Vault; 2],
    lineages: Vec<Vec<String>>,
}

impl Scene {
    fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() {
            tempfile::tempdir_in(shm).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let vault = Vault::create(&dir.path().join("v"), &key(7)).unwrap();
        sets::store(&vault, FIRST).unwrap();
        let apart = [(); 2].map(|()| Vault::open(vault.path(), &key(7)).unwrap());
        let seen = sets::seen(&vault).unwrap();
        let lineages = seen.values().map(|one| one.lineages.clone()).collect();
        Self {
            _dir: dir,
            vault,
            apart,
            lineages,
        }
    }

    /// Exactly what succeeded has happened.
    fn check(&self, done: &[(&str, usize)], what: &str) {
        let report = Vault::fsck(self.vault.path(), &key(7), FsckOptions::default()).unwrap();
        assert!(report.clean(), "{what}: {:?}", report.findings);
        let vault = Vault::open(self.vault.path(), &key(7)).unwrap();
        for (id, result) in vault.verify_all(None).unwrap() {
            result.unwrap_or_else(|error| panic!("{what}: object {id} {error}"));
        }
        let count = |name: &str| done.iter().filter(|(one, _)| *one == name).count();
        let withdrawn = vault.person(&person(WITHDRAWS)).unwrap();
        let flags = vault.consent().unwrap().flags(withdrawn, PURPOSE);
        assert_eq!(flags.consent, count("withdraw") == 0, "{what}: consent");
        let found = sets::seen(&vault).unwrap();
        sets::consistent(&vault, &found).unwrap();
        if count("drop") > 0 {
            assert!(found.is_empty(), "{what}: {found:?}");
        } else {
            let found: Vec<(&str, Seen)> = found.into_iter().collect();
            assert_eq!(found.len(), 2, "{what}: a side is lost");
            for ((name, seen), lineages) in found.iter().zip(&self.lineages) {
                rows_and_terms(done, name, seen, what);
                let kept = lineages.iter().all(|one| seen.lineages.contains(one));
                assert!(kept, "{what}: the ledger of {name} is another");
            }
        }
        // Nobody comes back with a fresh ledger, nor with more to spend.
        if count("drop") > 0 {
            let erased = count("erase") > 0;
            let back = FIRST.start..if erased { ERASED } else { FIRST.end };
            let stored = sets::store(&vault, back);
            if count("amend") > 0 {
                let told = stored.unwrap_err().to_string();
                assert!(told.contains("were promised"), "{what}: {told}");
                return;
            }
            stored.unwrap();
            for ((name, seen), lineages) in sets::seen(&vault).unwrap().iter().zip(&self.lineages) {
                let kept = lineages.iter().all(|one| seen.lineages.contains(one));
                assert!(kept, "{what}: a fresh ledger");
                let withheld = name == &SIDES[0] && count("withdraw") > 0 && !erased;
                let mut people = seen.people.clone();
                people.sort_unstable();
                people.dedup();
                let without = people.len() as u64 - seen.consented;
                assert_eq!(without, u64::from(withheld), "{what}: granted anew");
            }
        }
    }
}

fn race(one: &'static Operation, other: &'static Operation, repeats: usize) {
    for turn in 0..repeats {
        let what = format!("{} beside {}, turn {turn}", one.name, other.name);
        let scene = Scene::new();
        let barrier = Barrier::new(2);
        let run = |mine: &'static Operation, beside: &Operation, side: usize| {
            // Two processes in even turns, two threads of one in odd ones.
            let vault = if turn % 2 == 0 {
                &scene.apart[side]
            } else {
                &scene.vault
            };
            barrier.wait();
            match (mine.run)(vault, side) {
                Ok(()) => Some((mine.name, side)),
                Err(error) if honest(mine, beside, &error) => None,
                Err(error) => panic!("{what}: {} says {} {error}", mine.name, error.code()),
            }
        };
        let done: Vec<_> = std::thread::scope(|scope| {
            let first = scope.spawn(|| run(one, other, 0));
            let second = run(other, one, 1);
            let first = first
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            [first, second].into_iter().flatten().collect()
        });
        assert!(!done.is_empty(), "{what}: both gave up");
        scene.check(&done, &what);
    }
}

fn rows_and_terms(done: &[(&str, usize)], name: &str, seen: &Seen, what: &str) {
    let count = |name: &str| done.iter().filter(|(one, _)| *one == name).count();
    assert_eq!(seen.min_rows, 1 + count("amend") as u64, "{what}: {name}");
    let mut rows = seen.rows.clone();
    rows.sort_unstable();
    let mut people = vec![FIRST];
    for (_, side) in done.iter().filter(|(one, _)| *one == "extend") {
        let more = i64::try_from(*side).unwrap() * 100;
        people.push(NEXT.start + more..NEXT.end + more);
    }
    people.extend(vec![AGAIN; count("deliver again")]);
    let mut expected = sets::numbers_of(name, &people, count("erase") > 0);
    expected.sort_unstable();
    assert_eq!(rows, expected, "{what}: {name}");
}

#[test]
fn whatever_is_done_to_a_set_at_once_happened_wholly_or_not_at_all() {
    let repeats: usize =
        std::env::var("AEGIS_RACE_REPEATS").map_or(4, |text| text.parse().expect("a number"));
    let mut pairs = 0;
    for (at, one) in OPERATIONS.iter().enumerate() {
        for other in &OPERATIONS[at..] {
            race(one, other, repeats);
            pairs += 1;
        }
    }
    println!("races of sets: {pairs} pairs of operations, {repeats} turns each");
}
