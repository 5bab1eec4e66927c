//! Kills in what a steward does with a table and its holdout: both sides are of before, or both of after.

use aegis_vault::Vault;

use crate::check::{Side, whole};
use crate::material::key;
use crate::scene::Scene;
use crate::sets::{FIRST, NEXT, SIDES, consistent, numbers_of, seen};

/// Operations on a table and its holdout.
pub const OPERATIONS: [&str; 5] = ["drafts", "extend", "amend", "erase_table", "drop"];

/// Opens what is left, as the next process would.
pub fn check(scene: &Scene, operation: &str, what: &str) -> Side {
    let declared = scene.declared();
    let vault = Vault::open(&scene.folder(), &key(1));
    let vault = vault.unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = seen(&vault).unwrap_or_else(|error| panic!("{what}: {error}"));
    consistent(&vault, &found).unwrap();
    assert_ne!(found.len(), 1, "{what}: one side alone");
    let people = |operation: &str| match operation {
        "extend" => vec![FIRST, NEXT],
        _ => vec![FIRST],
    };
    let expected = |operation: &str| match operation {
        "drop" | "before drafts" => None,
        other => Some(SIDES.map(|side| {
            let rows = numbers_of(side, &people(other), other == "erase_table");
            (rows, if other == "amend" { 2 } else { 1 })
        })),
    };
    let now = (!found.is_empty())
        .then(|| SIDES.map(|side| (found[side].rows.clone(), found[side].min_rows)));
    let before = if operation == "drafts" {
        "before drafts"
    } else {
        "before"
    };
    let side = if now == expected(operation) {
        Side::New
    } else {
        assert_eq!(now, expected(before), "{what}: neither before nor after");
        Side::Old
    };
    assert!(!declared || side == Side::New, "{what}: forgotten");
    consent_came_with_data(&vault, operation, side, what);
    whole(vault, scene, &key(1), what);
    side
}

/// Everybody in the rows has consent, but for whom it ended: it is never behind the data.
fn consent_came_with_data(vault: &Vault, operation: &str, side: Side, what: &str) {
    for (name, seen) in seen(vault).unwrap() {
        let mut people = seen.people.clone();
        people.sort_unstable();
        people.dedup();
        // An erasure is on record before the rows are gone.
        let ended = u64::from(operation == "erase_table" && side == Side::Old && name == SIDES[0]);
        let count = people.len() as u64;
        let range = count - ended..=count;
        assert!(range.contains(&seen.consented), "{what}: {name}");
    }
}
