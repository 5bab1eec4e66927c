//! Every pair of operations on one vault at the same time, by two processes (two openings) and by two threads of one: nobody
//! cries at a living writer. What an operation may end with besides success stands in the table, and afterwards the vault is
//! whole.
//!
//! `AEGIS_RACE_REPEATS` is how often each pair runs (`make test-crash`: 10 000), `AEGIS_RACE_ONLY` takes the pairs of one operation,
//! `AEGIS_RACE_FROM` goes on from the pair of that number.

#[path = "bin/material.rs"]
#[allow(dead_code)] // the crash tests use the rest
mod material;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::Instant;

use aegis_policy::{Action, Bundle, Change};
use aegis_vault::{FsckOptions, Item, Meta, Result, StoreOptions, Vault, VaultError};
use material::{key, store_records};
use tempfile::TempDir;
use uuid::Uuid;

/// What one side works with.
struct Party {
    vault: Vault,
    /// The same for both sides.
    shared: Uuid,
    /// Differs from side to side and turn to turn.
    name: String,
    outside: PathBuf,
}

impl Party {
    fn path(&self) -> &Path {
        self.vault.path()
    }
    fn fsck(&self, repair: bool) -> Result<()> {
        let options = FsckOptions {
            repair,
            ..FsckOptions::default()
        };
        let report = Vault::fsck(self.path(), &key(7), options)?;
        assert!(report.opened, "{report:?}");
        let wrong: Vec<_> = report.findings.iter().filter(|f| !f.repaired).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        Ok(())
    }
}

struct Operation {
    name: &'static str,
    run: fn(&Party) -> Result<()>,
    /// Takes the shared object away, or the whole vault: not used again.
    ends: bool,
}

const fn operation(name: &'static str, run: fn(&Party) -> Result<()>) -> Operation {
    Operation {
        name,
        run,
        ends: false,
    }
}

const fn ending(name: &'static str, run: fn(&Party) -> Result<()>) -> Operation {
    Operation {
        name,
        run,
        ends: true,
    }
}

/// Parsed once: it is most of what a turn with `govern` would cost.
fn bundle() -> &'static Bundle {
    static CORE: OnceLock<Bundle> = OnceLock::new();
    CORE.get_or_init(Bundle::core)
}

/// Every public operation that reads or writes the folder.
const OPERATIONS: [Operation; 26] = [
    operation("open", |p| Vault::open(p.path(), &key(7)).map(drop)),
    operation("store", |p| {
        p.vault.store_bytes(b"x", Meta::named(&p.name)).map(drop)
    }),
    operation("store_many", |p| {
        let items: Vec<_> = (0..3)
            .map(|n| (Item::Bytes(b"x"), Meta::named(format!("{}.{n}", p.name))))
            .collect();
        p.vault
            .store_many(&items, StoreOptions::default())
            .map(drop)
    }),
    operation("store_records", |p| {
        store_records(&p.vault, &p.name, 1).map(drop)
    }),
    operation("abandon", |p| {
        let mut writer = p.vault.writer(Meta::named(&p.name))?;
        writer.append(b"never finished")
    }),
    operation("list", |p| p.vault.list().map(drop)),
    operation("stat", |p| p.vault.stat(p.shared).map(drop)),
    operation("read", |p| {
        let permit = Arc::new(p.vault.owner_permit(p.shared, Action::Read)?);
        let mut out = [0; 5];
        let read = p.vault.reader(&permit, p.shared)?.read_at(0, &mut out)?;
        assert_eq!(&out[..read], b"share");
        Ok(())
    }),
    operation("dataset", |p| {
        let sets = p.vault.list()?;
        for set in sets.iter().filter(|o| o.attrs.contains_key("aegis.rows")) {
            p.vault.dataset(set.id)?;
        }
        Ok(())
    }),
    operation("verify", |p| p.vault.verify(p.shared).map(drop)),
    operation("verify_all", |p| {
        for (_, result) in p.vault.verify_all(None)? {
            match result {
                Ok(_) | Err(VaultError::ObjectShredded { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }),
    operation("scrub", |p| {
        let report = p.vault.scrub(0.5, None)?;
        assert!(report.damaged.is_empty(), "{:?}", report.damaged);
        Ok(())
    }),
    operation("fsck", |p| p.fsck(false)),
    operation("fsck --repair", |p| p.fsck(true)),
    operation("rename", |p| p.vault.rename(p.shared, &p.name)),
    operation("rotate", |p| p.vault.rotate(None).map(drop)),
    operation("backup", |p| {
        let to = p.outside.join(&p.name);
        p.vault.backup_keystore(&to, &key(7))?;
        std::fs::remove_file(to).unwrap();
        Ok(())
    }),
    operation("consent", |p| {
        let person = ["ann".to_owned()];
        for change in [Change::Grant, Change::Withdraw] {
            p.vault
                .change_consent(change, &person, Some("research"), true)?;
        }
        Ok(())
    }),
    operation("record", |p| {
        p.vault.record("app.note", serde_json::Map::new()).map(drop)
    }),
    operation("commit_head", |p| {
        p.vault.commit_head(&p.name, 1, [1; 32])?;
        p.vault.head(&p.name).map(drop)
    }),
    ending("shred", |p| p.vault.shred(p.shared, None).map(drop)),
    ending("shred_many", |p| {
        p.vault.shred_many(&[p.shared], None).map(drop)
    }),
    ending("shred_subject", |p| {
        p.vault.shred_subject("person", None).map(drop)
    }),
    ending("reencrypt", |p| p.vault.reencrypt(p.shared, None).map(drop)),
    ending("govern", |p| p.vault.govern(bundle())),
    ending("destroy", |p| p.vault.destroy(None).map(drop)),
];

/// The only ways in which `one` may end beside `other`.
fn honest(one: &Operation, other: &Operation, error: &VaultError) -> bool {
    let takes = ["shred", "shred_many", "shred_subject", "reencrypt"].contains(&other.name);
    match error {
        VaultError::VaultDestroyed { .. } => other.name == "destroy",
        VaultError::PermitRequired { .. } => other.name == "govern" && one.name == "read",
        VaultError::ObjectShredded { .. } | VaultError::ObjectNotFound { .. } => takes,
        VaultError::SubjectNotFound => takes && one.name == "shred_subject",
        _ => false,
    }
}

fn place() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        tempfile::tempdir_in(shm).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

struct Scene {
    dir: TempDir,
    vault: Vault,
    /// As two processes have it: opened one by one, nothing shared but the folder.
    apart: [Vault; 2],
    shared: Option<Uuid>,
    turns: usize,
}

impl Scene {
    fn new() -> Self {
        let dir = place();
        let vault = Vault::create(&dir.path().join("v"), &key(7)).unwrap();
        vault.store_bytes(b"kept", Meta::named("kept")).unwrap();
        store_records(&vault, "rows", 1).unwrap();
        let apart = [(); 2].map(|()| Vault::open(vault.path(), &key(7)).unwrap());
        Self {
            dir,
            vault,
            apart,
            shared: None,
            turns: 0,
        }
    }

    fn shared(&mut self, turn: usize) -> Uuid {
        if let Some(known) = self.shared {
            return known;
        }
        let meta = Meta {
            subject: Some("person".into()),
            ..Meta::named(format!("shared {turn}"))
        };
        let made = self.vault.store_bytes(b"shared", meta).unwrap();
        self.shared = Some(made);
        made
    }

    /// Whole, and nothing that should be there is lost.
    fn check(&self, what: &str) {
        let report = Vault::fsck(self.vault.path(), &key(7), FsckOptions::default());
        let report = match report {
            Err(VaultError::VaultDestroyed { .. }) => return,
            other => other.unwrap_or_else(|e| panic!("{what}: afterwards {} {e}", e.code())),
        };
        assert!(report.clean(), "{what}: {:?}", report.findings);
        let vault = Vault::open(self.vault.path(), &key(7)).unwrap();
        for (id, result) in vault.verify_all(None).unwrap() {
            result.unwrap_or_else(|error| panic!("{what}: object {id} {error}"));
        }
        let names: Vec<String> = vault.list().unwrap().into_iter().map(|o| o.name).collect();
        assert!(names.contains(&"kept".to_owned()), "{what}: {names:?}");
        assert!(names.contains(&"rows".to_owned()), "{what}: {names:?}");
    }
}

fn race(one: &Operation, other: &Operation, repeats: usize) {
    let what = format!("{} beside {}", one.name, other.name);
    let spoils = |o: &Operation| ["govern", "destroy"].contains(&o.name);
    let mut scene = Scene::new();
    for turn in 0..repeats {
        // Small vaults, so that there are many turns; governed and destroyed ones are of no further use.
        if scene.turns == 16 || (turn > 0 && (spoils(one) || spoils(other))) {
            scene.check(&what);
            scene = Scene::new();
        }
        scene.turns += 1;
        let shared = scene.shared(turn);
        let barrier = Barrier::new(2);
        let party = |side: usize| Party {
            // Two processes in even turns, two threads of one in odd ones.
            vault: if turn % 2 == 0 {
                scene.apart[side].clone()
            } else {
                scene.vault.clone()
            },
            shared,
            name: format!("{side}-{turn}"),
            outside: scene.dir.path().to_path_buf(),
        };
        let (left, right) = (party(0), party(1));
        let run = |mine: &Operation, beside: &Operation, party: &Party| {
            barrier.wait();
            if let Err(error) = (mine.run)(party)
                && !honest(mine, beside, &error)
            {
                panic!(
                    "{} beside {}, turn {turn}: {} {error}",
                    mine.name,
                    beside.name,
                    error.code()
                );
            }
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| run(one, other, &left));
            run(other, one, &right);
            first
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        if one.ends || other.ends {
            scene.shared = None;
        }
    }
    scene.check(&what);
}

#[test]
fn every_pair_of_operations_at_once_ends_well_or_says_honestly_what_the_other_did() {
    let repeats: usize =
        std::env::var("AEGIS_RACE_REPEATS").map_or(2, |text| text.parse().expect("a number"));
    let from: usize =
        std::env::var("AEGIS_RACE_FROM").map_or(0, |text| text.parse().expect("a number"));
    let only = std::env::var("AEGIS_RACE_ONLY").ok();
    let pairs: Vec<_> = (0..OPERATIONS.len())
        .flat_map(|one| {
            (one..OPERATIONS.len()).map(move |other| (&OPERATIONS[one], &OPERATIONS[other]))
        })
        .filter(|(one, other)| {
            only.as_deref()
                .is_none_or(|o| one.name == o || other.name == o)
        })
        .collect();
    // More than cores: half of a turn is waiting for the other side's lock.
    let workers = 3 * std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((one, other)) = pairs.get(number) else {
                        break;
                    };
                    let start = Instant::now();
                    race(one, other, repeats);
                    if repeats > 100 {
                        println!(
                            "{number}: {} beside {}: {:.0} s",
                            one.name,
                            other.name,
                            start.elapsed().as_secs_f64()
                        );
                    }
                }
            });
        }
    });
    println!(
        "races: {} pairs of operations, {repeats} turns each",
        pairs.len().saturating_sub(from)
    );
}
