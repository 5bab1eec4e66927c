//! kill -9 at every fail point of every operation, and at random moments: the old state or the new one, never another.
//!
//! A killed process loses nothing the system has accepted: what a disk loses at a power cut is not tested here.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aegis_policy::Action;
use aegis_vault::{FsckOptions, Meta, Provider, Vault, VaultError};
use uuid::Uuid;

const OPERATIONS: [&str; 10] = [
    "store",
    "write",
    "rename",
    "shred",
    "shred_subject",
    "rotate",
    "renew",
    "reencrypt",
    "backup",
    "destroy",
];

/// A vault with three objects: one to keep, two about one person.
struct Prepared {
    _dir: tempfile::TempDir,
    folder: PathBuf,
    keep: Uuid,
    victims: [Uuid; 2],
    seed: u8,
}

fn key(byte: u8) -> Provider {
    Provider::raw(&[byte; 32]).unwrap()
}

fn content(seed: u8, number: u8) -> Vec<u8> {
    let byte = |n: u32| n.to_le_bytes()[0].wrapping_mul(seed).wrapping_add(number);
    (0..10_000).map(byte).collect()
}

fn prepare(seed: u8) -> Prepared {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    let vault = Vault::create(&folder, &key(1)).unwrap();
    let store = |number: u8| {
        let meta = Meta {
            subject: (number > 0).then(|| "person".to_owned()),
            ..Meta::named(format!("object {number}"))
        };
        let mut writer = vault.writer_chunked(meta, 12).unwrap();
        writer.append(&content(seed, number)).unwrap();
        writer.finish().unwrap()
    };
    let (keep, victims) = (store(0), [store(1), store(2)]);
    Prepared {
        _dir: dir,
        folder,
        keep,
        victims,
        seed,
    }
}

fn command(prepared: &Prepared, operation: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-vault-crash"));
    command
        .arg(&prepared.folder)
        .args([
            operation,
            &prepared.seed.to_string(),
            &prepared.victims[0].to_string(),
        ])
        .env_remove("AEGIS_FAIL_KILL")
        .env_remove("AEGIS_FAIL_LIST")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Starts a process; the system may be short of them for a moment (EAGAIN), which says nothing about the vault.
fn start(command: &mut Command) -> Child {
    for _ in 0..50 {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(200));
            }
            started => return started.unwrap(),
        }
    }
    panic!("no process can be started")
}

fn run(command: &mut Command) -> ExitStatus {
    start(command).wait().unwrap()
}

/// The points an operation passes, `name:n` each.
fn points(operation: &str) -> BTreeSet<String> {
    let prepared = prepare(1);
    let list = prepared.folder.with_extension("list");
    let done = run(command(&prepared, operation).env("AEGIS_FAIL_LIST", &list));
    assert!(done.success(), "{operation} does not run");
    let text = fs::read_to_string(list).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn load(vault: &Vault, id: Uuid) -> Vec<u8> {
    let permit = Arc::new(vault.owner_permit(id, Action::Read).unwrap());
    let reader = vault.reader(&permit, id).unwrap();
    let mut out = vec![0; usize::try_from(reader.len()).unwrap()];
    reader.read_into(0, &mut out, None).unwrap();
    out
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// Opens what is left and checks that it is the old state or the new one.
fn check(prepared: &Prepared, operation: &str, at: &str) {
    let what = format!("{operation} at {at}");
    let folder = &prepared.folder;
    let (first, second) = (Vault::open(folder, &key(1)), Vault::open(folder, &key(2)));
    if let Err(VaultError::VaultDestroyed { .. }) = first {
        assert_eq!(operation, "destroy", "{what}");
        for gone in ["keystore.akv", "epoch.key", "epoch.key.next"] {
            assert!(!folder.join(gone).exists(), "{what}: {gone}");
        }
        assert!(files(&folder.join("objects")).is_empty(), "{what}");
        assert!(files(&folder.join("journal")).is_empty(), "{what}");
        return;
    }
    assert!(
        first.is_ok() != second.is_ok(),
        "{what}: {:?} {:?}",
        first.err(),
        second.err()
    );
    let mine = if first.is_ok() { key(1) } else { key(2) };
    assert!(first.is_ok() || operation == "rotate", "{what}");
    let vault = first.or(second).unwrap();
    state(&vault, prepared, operation, &what);
    let verified = vault.verify_all(None).unwrap();
    assert!(verified.iter().all(|(_, result)| result.is_ok()), "{what}");
    drop(vault);
    let report = Vault::fsck(folder, &mine, FsckOptions::default()).unwrap();
    assert!(
        report.clean() && report.findings.is_empty(),
        "{what}: {:?}",
        report.findings
    );
    for path in files(folder) {
        let name = path.to_string_lossy();
        let left = name.ends_with(".tmp") || name.ends_with(".next") || name.contains("/journal/");
        assert!(!left, "{what}: {name}");
    }
}

fn state(vault: &Vault, prepared: &Prepared, operation: &str, what: &str) {
    let seed = prepared.seed;
    assert_eq!(load(vault, prepared.keep), content(seed, 0), "{what}");
    let all = vault.list().unwrap();
    let shredded = prepared
        .victims
        .map(|id| matches!(vault.stat(id), Err(VaultError::ObjectShredded { .. })));
    for ((number, id), gone) in (1..).zip(prepared.victims).zip(shredded) {
        if !gone {
            assert_eq!(load(vault, id), content(seed, number), "{what}");
        }
    }
    let live = all.len();
    match operation {
        "store" | "write" => {
            let new: Vec<_> = all.iter().filter(|o| o.name == "new").collect();
            assert!(new.len() <= 1 && live == 3 + new.len(), "{what}");
            for object in new {
                let data = vec![seed; 3 * (1 << 20) + usize::from(seed)];
                assert!(load(vault, object.id) == data, "{what}");
            }
        }
        "shred" => assert!(
            !shredded[1] && live == 3 - usize::from(shredded[0]),
            "{what}"
        ),
        "shred_subject" => assert_eq!(shredded[0], shredded[1], "{what}"),
        "reencrypt" => {
            let same: Vec<_> = all.iter().filter(|o| o.name == "object 1").collect();
            assert_eq!((same.len(), live), (1, 3), "{what}");
            assert_eq!(load(vault, same[0].id), content(seed, 1), "{what}");
        }
        "rename" => {
            let name = vault.stat(prepared.victims[0]).unwrap().name;
            assert!(name == "renamed" || name == "object 1", "{what}: {name}");
        }
        _ => assert!(live == 3 && shredded == [false; 2], "{what}"),
    }
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn seed(turn: u32) -> u8 {
    u8::try_from(turn % 250 + 1).unwrap()
}

#[test]
fn a_kill_at_any_fail_point_leaves_the_old_state_or_the_new_one() {
    let repeats = number("AEGIS_CRASH_REPEATS", 1);
    let (mut tries, mut twice) = (0, 0);
    for operation in OPERATIONS {
        let points = points(operation);
        for point in &points {
            for turn in 0..repeats {
                let prepared = prepare(seed(turn));
                let died = run(command(&prepared, operation).env("AEGIS_FAIL_KILL", point));
                assert!(!died.success(), "{operation} outlived {point}");
                if turn % 2 == 1 {
                    // A second death, in the recovery from the first. A destroyed vault recovers elsewhere.
                    let again =
                        run(command(&prepared, "open").env("AEGIS_FAIL_KILL", "recover.start:1"));
                    assert!(!again.success(), "{operation} {point}");
                    twice += 1;
                }
                check(&prepared, operation, point);
                tries += 1;
            }
        }
        let names: Vec<&str> = points.iter().map(String::as_str).collect();
        println!("{operation}: {} points: {}", names.len(), names.join(" "));
    }
    println!(
        "kill -9 at fail points: {tries} tries ({twice} died again in recovery); old state or new, fsck clean"
    );
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_state_or_the_new_one() {
    let (mut died, mut late) = (0, 0);
    for turn in 0..number("AEGIS_CRASH_RANDOM", 20) {
        let operation = OPERATIONS[turn as usize % OPERATIONS.len()];
        let prepared = prepare(seed(turn));
        let mut child = start(&mut command(&prepared, operation));
        // Spread over what an operation takes here, by a step that shares no factor with the operations.
        std::thread::sleep(Duration::from_micros(u64::from(turn) * 7_919 % 60_000));
        let _ = child.kill();
        if child.wait().unwrap().success() {
            late += 1;
        } else {
            died += 1;
        }
        check(&prepared, operation, &format!("try {turn}"));
    }
    println!("kill -9 at random moments: {died} died, {late} had finished");
}
