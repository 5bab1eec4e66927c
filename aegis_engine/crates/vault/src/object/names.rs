//! Which names are taken: no live object has the name of a dataset, which nodes are configured by.
//!
//! A name lies in the object's sealed header, and since version 2 of the keystore in the object's record, too, so that
//! whether it is taken is known without opening every file. Vaults from before may have two objects of one name, and names
//! that would be refused now: they stay readable, and are told apart by id.

use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::{Body, Entry, KeyRecord, Kind};
use crate::format::name;
use crate::object::draft::Finished;
use crate::vault::Exclusive;
use crate::vault::Inner;

/// Who asks for a name. A dataset is chosen by its name, so it has it alone; plain objects may share one and are told apart
/// by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Plain,
    Dataset,
}

impl Asker {
    pub fn of(record: &KeyRecord) -> Self {
        match record.rows {
            Some(_) => Self::Dataset,
            None => Self::Plain,
        }
    }

    fn minds(self, other: &KeyRecord) -> bool {
        self == Self::Dataset || Self::of(other) == Self::Dataset
    }
}

fn named<'a>(
    mut records: impl Iterator<Item = &'a KeyRecord>,
    name: &str,
    asker: Asker,
) -> Option<Uuid> {
    records
        .find(|r| r.kind == Kind::Data && r.name.as_deref() == Some(name) && asker.minds(r))
        .map(|record| record.object)
}

/// The live object that stands in the way, as far as the keystore knows names.
fn holder(body: &Body, name: &str, asker: Asker) -> Option<Uuid> {
    if !body.may_have(name) {
        return None;
    }
    named(body.records(), name, asker)
}

fn taken(name: &str, object: Uuid) -> VaultError {
    VaultError::NameTaken {
        name: name.to_owned(),
        object,
    }
}

/// Before an object is written at all; what counts is [`claim`].
pub(crate) fn look(inner: &Inner, name: &str, asker: Asker) -> Result<()> {
    match holder(&inner.current()?.body, name, asker) {
        Some(object) => Err(taken(name, object)),
        None => Ok(()),
    }
}

/// Refuses when a name of `objects` is taken. Under the lock, before the commit.
pub(crate) fn claim(exclusive: &mut Exclusive<'_>, objects: &[Finished]) -> Result<()> {
    learn(exclusive);
    let mut seen: std::collections::HashMap<&str, &KeyRecord> = std::collections::HashMap::new();
    for record in objects.iter().map(|object| &object.record) {
        let Some(name) = record.name.as_deref().filter(|_| record.kind == Kind::Data) else {
            continue;
        };
        if let Some(first) = seen.insert(name, record)
            && Asker::of(record).minds(first)
        {
            return Err(taken(name, first.object));
        }
        free(exclusive, name, record)?;
    }
    Ok(())
}

/// Refuses when that name is another live object's, and one of the two is a dataset.
pub(crate) fn free(exclusive: &Exclusive<'_>, name: &str, record: &KeyRecord) -> Result<()> {
    let asker = Asker::of(record);
    let changed = exclusive
        .delta
        .entries
        .values()
        .filter_map(|entry| match entry {
            Entry::Live(record) => Some(&**record),
            Entry::Shredded { .. } => None,
        });
    let other = |r: &&KeyRecord| r.object != record.object;
    let body = &exclusive.state().body;
    let found = if body.may_have(name) {
        named(body.records().filter(other), name, asker)
    } else {
        None
    };
    match found.or_else(|| named(changed.filter(other), name, asker)) {
        Some(other) => Err(taken(name, other)),
        None => Ok(()),
    }
}

/// Puts the names that only the headers have into the keystore, with the next commit: once in the life of a vault from
/// before. A header that does not open has no name that could be taken.
pub(crate) fn learn(exclusive: &mut Exclusive<'_>) {
    let inner = exclusive.inner;
    let learned: Vec<KeyRecord> = {
        let state = exclusive.state();
        if state.body.unnamed() == 0 {
            return;
        }
        let mut given_up = inner.unnamed();
        let unnamed = state.body.records().filter(|record| {
            record.kind == Kind::Data && record.name.is_none() && !given_up.contains(&record.object)
        });
        let mut learned = Vec::new();
        let mut lost = Vec::new();
        for record in unnamed {
            match inner.describe(&state.body, record) {
                Ok(info) if name::check_length(&info.name).is_ok() => learned.push(KeyRecord {
                    name: Some(info.name),
                    ..record.clone()
                }),
                _ => lost.push(record.object),
            }
        }
        given_up.extend(lost);
        learned
    };
    for record in learned {
        exclusive.put(record.object, Entry::Live(Box::new(record)));
    }
}
