//! kill -9 at every fail point of every operation, at every fail point of the recovery from each, and at random moments: the
//! old state or the new one, never another; what was declared is finished.
//!
//! A killed process loses nothing the system has accepted: what a disk loses at a power cut (a lost fsync) is not tested here.

mod check;
#[path = "../bin/material.rs"]
mod material;
mod on_sets;
mod scene;
#[path = "../bin/sets.rs"]
mod sets;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use check::{Side, check};
use scene::{Scene, killed, run, start};

const OPERATIONS: [&str; 25] = [
    "create",
    "store",
    "write",
    "records",
    "rename",
    "many",
    "head",
    "outgrow",
    "shred",
    "shred_many",
    "shred_dataset",
    "shred_subject",
    "erase_person",
    "rotate",
    "renew",
    "reencrypt",
    "reencrypt_dataset",
    "backup",
    "restore",
    "destroy",
    "drafts",
    "extend",
    "amend",
    "erase_table",
    "drop",
];

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn seed(turn: usize) -> u8 {
    u8::try_from(turn % 250 + 1).unwrap()
}

/// What the next process does.
fn recovery(operation: &str) -> &str {
    match operation {
        "create" | "restore" => operation,
        _ => "open",
    }
}

/// A copy of the template, killed at `point`.
fn dead(template: &Scene, operation: &str, point: &str) -> Scene {
    // A random id sometimes falls into a shard that is there: no folder is made then.
    for _ in 0..20 {
        let scene = template.again();
        if scene.kill_at(operation, point) {
            return scene;
        }
    }
    panic!("{operation} does not pass {point} any more")
}

/// Finished runs pass these points.
fn points(template: &Scene, operation: &str) -> BTreeSet<String> {
    let (points, ended) = template.again().points(operation);
    assert!(ended.success(), "{operation} does not run: {ended}");
    assert!(!points.is_empty(), "{operation} passes no point");
    points
}

#[test]
fn a_kill_at_any_fail_point_leaves_the_old_state_or_the_new_one() {
    let repeats = number("AEGIS_CRASH_REPEATS", 1);
    let mut tries = 0;
    for operation in OPERATIONS {
        let (mut old, mut new, mut count) = (0, 0, 0);
        let mut passed = BTreeSet::new();
        for turn in 0..repeats {
            let template = Scene::new(operation, seed(turn));
            passed = points(&template, operation);
            for point in &passed {
                let scene = dead(&template, operation, point);
                match check(&scene, operation, &format!("{operation} at {point}")) {
                    Side::Old => old += 1,
                    Side::New => new += 1,
                }
                count += 1;
            }
        }
        tries += count;
        let names: Vec<&str> = passed.iter().map(String::as_str).collect();
        println!(
            "{operation}: {count} kills at {} points, {old} old, {new} new: {}",
            names.len(),
            names.join(" ")
        );
    }
    println!(
        "kill -9 at fail points: {tries} tries, each the old state or the new one, fsck clean"
    );
}

#[test]
fn a_kill_in_the_recovery_from_a_kill_changes_nothing_of_that() {
    // Every n-th pair of points.
    let step = number("AEGIS_CRASH_RECOVERY", 25).max(1);
    let (mut pairs, mut tries) = (0, 0);
    for operation in OPERATIONS {
        let template = Scene::new(operation, 77);
        let before = (pairs, tries);
        for point in points(&template, operation) {
            let scene = dead(&template, operation, &point);
            let declared = scene.declared();
            let next = recovery(operation);
            // An open of a destroyed vault ends with an error, after it has finished the destruction.
            let (again, _) = scene.again().points(next);
            for second in again {
                pairs += 1;
                if pairs % step != 0 {
                    continue;
                }
                let twice = scene.again();
                let what = format!("{operation} at {point}, then {next} at {second}");
                assert!(twice.kill_at(next, &second), "{what}: not passed");
                let side = check(&twice, operation, &what);
                assert!(!declared || side == Side::New, "{what}: forgotten");
                tries += 1;
            }
        }
        println!(
            "{operation}: {} pairs, {} tried",
            pairs - before.0,
            tries - before.1
        );
    }
    println!("kill -9 in recovery: {tries} of {pairs} pairs of points tried");
    assert!(tries > 0);
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_state_or_the_new_one() {
    let (mut died, mut late, mut old, mut new) = (0, 0, 0, 0);
    let turns = number("AEGIS_CRASH_RANDOM", 32);
    let mut noise = 0x2545_F491_4F6C_DD1D_u64;
    for (number, operation) in OPERATIONS.into_iter().enumerate() {
        let template = Scene::new(operation, seed(number));
        let whole = template.again();
        let begun = Instant::now();
        assert!(run(&mut whole.command(operation)).success());
        let takes = u64::try_from(begun.elapsed().as_micros()).unwrap();
        for turn in 0..turns.div_ceil(OPERATIONS.len()) {
            let scene = template.again();
            let mut child = start(&mut scene.command(operation));
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            // Until a little after the end.
            std::thread::sleep(Duration::from_micros(noise % (takes + takes / 8 + 1)));
            let _ = child.kill();
            let ended = child.wait().unwrap();
            assert!(ended.success() || killed(ended), "{operation}: {ended}");
            *(if killed(ended) { &mut died } else { &mut late }) += 1;
            match check(&scene, operation, &format!("{operation}, try {turn}")) {
                Side::Old => old += 1,
                Side::New => new += 1,
            }
        }
    }
    println!("kill -9 at random moments: {died} died, {late} had finished; {old} old, {new} new");
}
