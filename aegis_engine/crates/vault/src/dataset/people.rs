//! Whose rows are in the live datasets: so that a withdrawal says what it reaches, and one that reaches nobody is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aegis_policy::{Subject, words};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::error::{Result, VaultError};
use crate::format::keystore::Kind;
use crate::vault::Vault;
use crate::vault::blob::pseudonym;

/// How often datasets may be written anew by others while they are looked through.
const TURNS: usize = 100;

/// Rows by person of every live dataset, as far as they were read: a dataset never changes.
type People = HashMap<Uuid, Arc<Rows>>;

/// One dataset.
pub(crate) struct Rows {
    pub object: Uuid,
    pub purposes: BTreeSet<String>,
    of: HashMap<Subject, (u64, u64)>,
}

impl Rows {
    fn new(dataset: &Dataset) -> Self {
        let mut of: HashMap<Subject, (u64, u64)> = HashMap::new();
        let index = &dataset.index;
        for (subject, class) in index.subjects.iter().zip(&index.class_of) {
            let rows = of.entry(*subject).or_default();
            rows.0 += 1;
            rows.1 += u64::from(index.classes[usize::from(*class)].basis == "consent");
        }
        Self {
            object: dataset.id,
            purposes: dataset.facts.purposes.clone(),
            of,
        }
    }

    /// Rows of that person, and how many of them rest on consent.
    pub fn of(&self, person: &Subject) -> (u64, u64) {
        self.of.get(person).copied().unwrap_or_default()
    }
}

/// Somebody whom an identifier names.
pub(crate) struct Named {
    /// Every pseudonym under which the person may be known, the one of today first.
    pub forms: Vec<Subject>,
    /// Some row of a live dataset is theirs.
    pub known: bool,
}

impl Vault {
    /// Rows by person of every live dataset. One that is written anew at this moment is looked for again.
    pub(crate) fn rows_of_people(&self) -> Result<Vec<Arc<Rows>>> {
        for _ in 1..TURNS {
            match self.rows_of_people_once() {
                Err(VaultError::ObjectShredded { .. } | VaultError::ObjectNotFound { .. }) => {}
                other => return other,
            }
        }
        self.rows_of_people_once()
    }

    fn rows_of_people_once(&self) -> Result<Vec<Arc<Rows>>> {
        let live: Vec<Uuid> = {
            let state = self.inner.current()?;
            let all = state.body.records();
            all.filter(|record| record.kind == Kind::Data && record.rows.is_some())
                .map(|record| record.object)
                .collect()
        };
        self.inner.people.with(|known: &mut People| {
            known.retain(|object, _| live.contains(object));
            let mut all = Vec::with_capacity(live.len());
            for object in live {
                if let Some(rows) = known.get(&object) {
                    all.push(Arc::clone(rows));
                    continue;
                }
                let rows = Arc::new(Rows::new(&*self.dataset(object)?));
                known.insert(object, Arc::clone(&rows));
                all.push(rows);
            }
            Ok(all)
        })
    }

    /// The pseudonym of a person's identifier in its one spelling: composed (NFC), without space around it.
    ///
    /// # Errors
    /// AEG-P013 for what is no identifier: empty, longer than 256 bytes, with characters that are not seen.
    pub fn person(&self, identifier: &str) -> Result<Subject> {
        let one = words::subject(identifier).map_err(aegis_policy::PolicyError::from)?;
        self.pseudonym(&one)
    }

    /// As [`person`](Self::person), for many of whom each comes once.
    pub fn people<'n>(&self, identifiers: impl Iterator<Item = &'n str>) -> Result<Vec<Subject>> {
        let keyed = self.pseudonyms()?;
        let named = identifiers.map(|identifier| {
            let one = words::subject(identifier).map_err(aegis_policy::PolicyError::from)?;
            Ok(pseudonym(&keyed, &one))
        });
        named.collect()
    }

    /// As [`person`](Self::person), for many.
    pub fn persons(&self, identifiers: &[String]) -> Result<Vec<Subject>> {
        let keyed = self.pseudonyms()?;
        let mut known: HashMap<&str, Subject> = HashMap::new();
        let mut all = Vec::with_capacity(identifiers.len());
        for identifier in identifiers {
            let person = if let Some(person) = known.get(identifier.as_str()) {
                *person
            } else {
                let one = words::subject(identifier).map_err(aegis_policy::PolicyError::from)?;
                let person = pseudonym(&keyed, &one);
                known.insert(identifier, person);
                person
            };
            all.push(person);
        }
        Ok(all)
    }

    /// Whom an identifier names. Data of earlier versions may know people by a spelling that is none today.
    pub(crate) fn named(&self, identifier: &str, rows: &[Arc<Rows>]) -> Result<Named> {
        let has_rows = |person: &Subject| rows.iter().any(|set| set.of(person).0 > 0);
        let raw = self.pseudonym(identifier)?;
        let normal = self.person(identifier);
        if has_rows(&raw) {
            let mut forms: Vec<Subject> = normal.into_iter().collect();
            if !forms.contains(&raw) {
                forms.push(raw);
            }
            return Ok(Named { forms, known: true });
        }
        let person = normal?;
        let known = has_rows(&person);
        Ok(Named {
            forms: vec![person],
            known,
        })
    }

    /// How a person nobody knows may be spelt instead. The vault has only pseudonyms, so it tries; it names nobody.
    pub(crate) fn look_alike(&self, identifier: &str, rows: &[Arc<Rows>]) -> Result<&'static str> {
        let text: String = identifier.trim().nfc().collect();
        let swap = |from: &[char], to: &str| text.replace(from, to);
        let dashes = [
            '\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2212}', '_', ' ',
        ];
        let mut capital = text.to_lowercase();
        if let Some(first) = text.chars().next() {
            let upper: String = first.to_uppercase().collect();
            capital = format!(
                "{upper}{}",
                &capital[first.to_lowercase().map(char::len_utf8).sum::<usize>()..]
            );
        }
        let plain: String = text
            .nfd()
            .filter(|c| !unicode_normalization::char::is_combining_mark(*c))
            .collect();
        let visible: String = text.chars().filter(|c| !words::invisible(*c)).collect();
        let tries = [
            (
                text.to_lowercase(),
                "; somebody of that name in lower case has",
            ),
            (
                text.to_uppercase(),
                "; somebody of that name in upper case has",
            ),
            (capital, "; somebody of that name with a capital letter has"),
            (
                text.nfkc().collect(),
                "; somebody of that name in ordinary letters has",
            ),
            (
                words::skeleton(&text),
                "; somebody of a name that looks the same has",
            ),
            (plain, "; somebody of that name without accents has"),
            (
                visible,
                "; somebody of that name without invisible characters has",
            ),
            (
                swap(&dashes, "-"),
                "; somebody of that name with ordinary hyphens has",
            ),
            (
                swap(&['\u{2018}', '\u{2019}', '\u{2032}'], "'"),
                "; somebody of that name with an ordinary apostrophe has",
            ),
        ];
        for (spelt, hint) in tries {
            if spelt.is_empty() {
                continue;
            }
            let person = self.pseudonym(&spelt)?;
            if rows.iter().any(|set| set.of(&person).0 > 0) {
                return Ok(hint);
            }
        }
        Ok("")
    }
}
