//! What a steward may see of a data set without reading it: terms, counts, states of consent. No value of a row, no name.

use std::collections::{BTreeMap, HashSet};

use aegis_policy::{DatasetFacts, Subject};
use serde::Serialize;
use uuid::Uuid;

use crate::dataset::people::Rows;
use crate::error::Result;
use crate::format::schema::Layout;
use crate::vault::Vault;
use crate::vault::consents::fault;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnCard {
    /// Its name.
    pub name: String,
    /// Its type, as [`Layout::columns`] names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Values per row.
    pub count: u32,
}

/// Rows of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCard {
    /// Lawful basis.
    pub basis: String,
    /// Last day of use, days since 1970-01-01.
    pub last_day: Option<u32>,
    /// Of a special category (GDPR article 9).
    pub special: bool,
    /// How many.
    pub rows: u64,
}

/// How many people of a data set stand how to one purpose. Somebody may be counted in more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ConsentCard {
    /// Consent is in force.
    pub consented: u64,
    /// No consent is in force.
    pub without: u64,
    /// They object.
    pub objected: u64,
    /// They restricted the use.
    pub restricted: u64,
    /// They are erased.
    pub erased: u64,
}

/// One data set, as a steward sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetCard {
    /// The data object.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Records of fixed size, or a table.
    pub kind: &'static str,
    /// Bytes in the vault.
    pub bytes: u64,
    /// Seconds since 1970 when it was stored.
    pub created: u64,
    /// Rows.
    pub rows: u64,
    /// People they are about.
    pub people: u64,
    /// In the order of the rows' values.
    pub columns: Vec<ColumnCard>,
    /// What the importer said of the columns.
    pub about: Option<String>,
    /// The terms.
    pub facts: DatasetFacts,
    /// Rows by class.
    pub classes: Vec<ClassCard>,
    /// By purpose.
    pub consent: BTreeMap<String, ConsentCard>,
}

/// What the ledger says of one person, by purpose.
pub type ConsentOf = BTreeMap<String, BTreeMap<&'static str, bool>>;

impl Vault {
    /// One data set as a steward sees it. No permit: nothing of a row is in it.
    pub fn card(&self, object: Uuid) -> Result<DatasetCard> {
        let dataset = self.dataset(object)?;
        let stored = self.stat(object)?;
        let index = &dataset.index;
        let mut classes: Vec<ClassCard> = index
            .classes
            .iter()
            .map(|class| ClassCard {
                basis: class.basis.clone(),
                last_day: class.delete_after,
                special: class.special,
                rows: 0,
            })
            .collect();
        for class in &index.class_of {
            classes[usize::from(*class)].rows += 1;
        }
        let people: HashSet<&Subject> = index.subjects.iter().collect();
        let ledger = self.consent()?;
        let mut consent = BTreeMap::new();
        for purpose in &dataset.facts.purposes {
            let mut counts = ConsentCard::default();
            for person in &people {
                let flags = ledger.flags(**person, purpose);
                let count = |flag: bool| u64::from(flag);
                counts.consented += count(flags.consent && !flags.erased);
                counts.without += count(!flags.consent || flags.erased);
                counts.objected += count(flags.objected);
                counts.restricted += count(flags.restricted);
                counts.erased += count(flags.erased);
            }
            consent.insert(purpose.clone(), counts);
        }
        let (kind, about) = match &dataset.layout {
            Layout::Records(_) => ("records", None),
            Layout::Table(schema) => ("table", schema.about.clone()),
        };
        Ok(DatasetCard {
            id: object.to_string(),
            name: stored.name,
            kind,
            about,
            bytes: stored.bytes,
            created: stored.created,
            rows: u64::from(dataset.rows),
            people: people.len() as u64,
            columns: dataset
                .layout
                .columns()
                .into_iter()
                .map(|(name, kind, count)| ColumnCard { name, kind, count })
                .collect(),
            facts: dataset.facts.clone(),
            classes,
            consent,
        })
    }

    /// What the ledger says of a person, for every purpose of a live data set.
    ///
    /// # Errors
    /// AEG-P014 when no row of any live data set is theirs.
    pub fn consent_of(&self, identifier: &str) -> Result<(u64, ConsentOf)> {
        let sets = self.rows_of_people()?;
        let who = self.named(identifier, &sets)?;
        if !who.known {
            let hint = self.look_alike(identifier, &sets)?;
            return Err(fault(aegis_policy::ConsentError::UnknownSubject {
                count: 1,
                hint,
            }));
        }
        let rows = |set: &Rows| who.forms.iter().map(|form| set.of(form).0).sum::<u64>();
        let ledger = self.consent()?;
        let mut all = ConsentOf::new();
        for purpose in sets.iter().flat_map(|set| &set.purposes) {
            let mut said = BTreeMap::new();
            for form in &who.forms {
                let flags = ledger.flags(*form, purpose);
                for (name, flag) in [
                    ("consent", flags.consent && !flags.erased),
                    ("objected", flags.objected),
                    ("restricted", flags.restricted),
                    ("erased", flags.erased),
                ] {
                    *said.entry(name).or_default() |= flag;
                }
            }
            all.insert(purpose.clone(), said);
        }
        Ok((sets.iter().map(|set| rows(set)).sum(), all))
    }

    /// Which of these people have a row in a live data set.
    ///
    /// # Errors
    /// AEG-P013 for what is no identifier.
    pub fn known_people(&self, people: &[String]) -> Result<Vec<bool>> {
        let sets = self.rows_of_people()?;
        let known = |person| Ok(self.named(person, &sets)?.known);
        people.iter().map(|person: &String| known(person)).collect()
    }

    /// Which of these people belong to a holdout of that share of all people: a keyed draw by person, so that one person is always
    /// on the same side, in every delivery and under every name of a data set. A larger share holds out the same people and more.
    ///
    /// # Errors
    /// AEG-P013 for what is no identifier.
    pub fn held_out(&self, people: &[String], share: f64) -> Result<Vec<bool>> {
        self.drawn_out(&self.persons(people)?, share)
    }

    /// As [`held_out`](Self::held_out), by pseudonym.
    pub fn drawn_out(&self, people: &[Subject], share: f64) -> Result<Vec<bool>> {
        let keyed = self.macs("holdout")?;
        let mut all = Vec::with_capacity(people.len());
        for person in people {
            let drawn = keyed.of(person);
            let mut first = [0; 8];
            first.copy_from_slice(&drawn[..8]);
            #[allow(clippy::cast_precision_loss)] // a share has no more digits than f64
            let place = u64::from_be_bytes(first) as f64 / 2_f64.powi(64);
            all.push(place < share);
        }
        Ok(all)
    }
}
