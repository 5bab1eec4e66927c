//! A table and its holdout, and what a steward does with both: for the crash tests and the races.
#![allow(dead_code)] // each of the programs that share this file uses some of it

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use aegis_policy::{Action, Class, DatasetFacts, Role, RowIndex, Subject};
use aegis_tables::Writer;
use aegis_vault::{Amendment, Governed, Meta, Result, TableRequest, Vault};
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use uuid::Uuid;

/// Both sides.
pub const SIDES: [&str; 2] = ["set", "set.holdout"];
/// Those who are there from the start.
pub const FIRST: Range<i64> = 0..12;
/// Those who come with a delivery.
pub const NEXT: Range<i64> = 12..20;
/// Whom an erasure is about: they have two rows on one side.
pub const ERASED: i64 = 3;
pub const PURPOSE: &str = "research";

pub fn person(number: i64) -> String {
    format!("patient {number}")
}

/// The side that somebody is on.
fn side_of(number: i64) -> usize {
    usize::from(number % 4 == 0)
}

fn facts(side: usize) -> DatasetFacts {
    DatasetFacts {
        purposes: BTreeSet::from([PURPOSE.to_owned()]),
        approved_columns: BTreeSet::from(["x".to_owned()]),
        columns: vec!["x".to_owned()],
        min_rows: 1,
        min_subjects: 1,
        budget_micro_epsilon: 3_000_000,
        controller: "hospital".to_owned(),
        role: if side == 1 {
            Role::Holdout
        } else {
            Role::Train
        },
        ..DatasetFacts::default()
    }
}

/// A row each, two of the person who may be erased.
fn numbers(side: usize, people: Range<i64>) -> Vec<i64> {
    people
        .filter(|number| side_of(*number) == side)
        .flat_map(|number| vec![number; if number == ERASED { 2 } else { 1 }])
        .collect()
}

fn table(vault: &Vault, name: &str, side: usize, people: Range<i64>) -> Result<Governed> {
    let numbers = numbers(side, people);
    let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
    let mut writer = Writer::new(Vec::new(), &schema).expect("a writer");
    let column = Arc::new(Int64Array::from(numbers.clone()));
    let batch = RecordBatch::try_new(schema, vec![column]).expect("a batch");
    writer.write(&batch).expect("rows");
    let mut draft = vault.table_draft(Meta::named(name))?;
    draft.append(&writer.finish().expect("a file"))?;
    let subjects = numbers.iter().map(|number| vault.person(&person(*number)));
    Ok(Governed {
        draft,
        index: RowIndex {
            classes: vec![Class {
                basis: "consent".to_owned(),
                delete_after: Some(60_000),
                special: false,
            }],
            class_of: vec![0; numbers.len()],
            subjects: subjects.collect::<Result<_>>()?,
        },
        facts: facts(side),
        about: None,
    })
}

fn consents(vault: &Vault, people: Range<i64>) -> Result<Vec<(String, Vec<Subject>)>> {
    let subjects = people.map(|number| vault.person(&person(number)));
    let subjects: Vec<Subject> = subjects.collect::<Result<_>>()?;
    Ok(vec![(PURPOSE.to_owned(), subjects)])
}

pub fn store(vault: &Vault, people: Range<i64>) -> Result<()> {
    let sides = [0, 1].map(|side| table(vault, SIDES[side], side, people.clone()));
    let sides = sides.into_iter().collect::<Result<Vec<_>>>()?;
    vault
        .store_drafts(sides, consents(vault, people)?)
        .map(drop)
}

fn ids(vault: &Vault) -> Result<[Uuid; 2]> {
    Ok([vault.find_dataset(SIDES[0])?, vault.find_dataset(SIDES[1])?])
}

/// A delivery to both sides, of that name on its way.
pub fn extend(vault: &Vault, name: &str, people: Range<i64>) -> Result<()> {
    let sets = ids(vault)?;
    let mut both = Vec::new();
    for (side, set) in sets.into_iter().enumerate() {
        let name = format!("{name}.{side}");
        both.push((set, table(vault, &name, side, people.clone())?));
    }
    vault
        .extend_tables(both, consents(vault, people)?, "")
        .map(drop)
}

/// Narrower terms for both sides: each amendment asks for one more row, and takes a little of the budget.
pub fn amend(vault: &Vault) -> Result<()> {
    let mut both = Vec::new();
    for set in ids(vault)? {
        let mut facts = vault.dataset(set)?.facts.clone();
        facts.min_rows += 1;
        facts.budget_micro_epsilon -= 1;
        let amendment = Amendment {
            facts: Some(facts),
            ..Amendment::default()
        };
        both.push((set, amendment));
    }
    vault.amend_together(&both).map(drop)
}

pub fn drop_both(vault: &Vault) -> Result<()> {
    vault.shred_many(&ids(vault)?, None).map(drop)
}

/// The numbers in the rows, as a permit gives them.
pub fn read(vault: &Vault, set: Uuid) -> Result<Vec<i64>> {
    let permit = Arc::new(vault.owner_permit(set, Action::Read)?);
    let reader = vault.table(&permit, set, TableRequest::default())?;
    let mut batches = reader.batches(100, 1)?;
    let mut all = Vec::new();
    while let Some(batch) = batches.next_batch()? {
        let column = batch.column(0).as_any().downcast_ref::<Int64Array>();
        all.extend_from_slice(column.expect("integers").values());
    }
    Ok(all)
}

/// One side: rows, people in the order of the rows, terms, people with consent.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Seen {
    pub rows: Vec<i64>,
    pub people: Vec<Subject>,
    pub min_rows: u64,
    pub lineages: Vec<String>,
    pub consented: u64,
}

/// Each side that there is.
pub fn seen(vault: &Vault) -> Result<BTreeMap<&'static str, Seen>> {
    let mut all = BTreeMap::new();
    let live: Vec<String> = vault.list()?.into_iter().map(|one| one.name).collect();
    for name in SIDES
        .into_iter()
        .filter(|name| live.contains(&(*name).to_owned()))
    {
        let set = vault.find_dataset(name)?;
        let dataset = vault.dataset(set)?;
        all.insert(
            name,
            Seen {
                rows: read(vault, set)?,
                people: dataset.index.subjects.clone(),
                min_rows: dataset.facts.min_rows,
                lineages: dataset.facts.lineages.clone(),
                consented: vault.card(set)?.consent[PURPOSE].consented,
            },
        );
    }
    Ok(all)
}

/// Each row is about the person whose number it has, and everybody is on their own side: nothing shifted, nothing half.
pub fn consistent(vault: &Vault, sides: &BTreeMap<&'static str, Seen>) -> Result<()> {
    for (name, seen) in sides {
        let side = usize::from(*name == SIDES[1]);
        assert_eq!(seen.rows.len(), seen.people.len(), "{name}");
        for (number, subject) in seen.rows.iter().zip(&seen.people) {
            assert_eq!(*subject, vault.person(&person(*number))?, "{name}");
            assert_eq!(side_of(*number), side, "{name}: {number}");
        }
    }
    Ok(())
}

/// What both sides are after these steps, with `min_rows` and the people given.
pub fn numbers_of(side: &str, people: &[Range<i64>], erased: bool) -> Vec<i64> {
    let side = usize::from(side == SIDES[1]);
    let all = people.iter().flat_map(|one| numbers(side, one.clone()));
    all.filter(|number| !erased || *number != ERASED).collect()
}
