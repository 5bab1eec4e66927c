//! Governed tables whose Parquet bytes come piece by piece.

use std::collections::BTreeMap;

use aegis_policy::{Class, DatasetFacts, RowIndex, Subject, distinct};
use aegis_vault::{Consents, Governed, Granted, VaultError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use uuid::Uuid;

use super::store::{Attrs, meta};

use crate::buffer::Bytes;
use crate::convert::{to_json, uuid};
use crate::error::{Fault, Result};
use crate::handle::Vault;
use crate::under_way::UnderWay;

/// What has come so far.
struct Coming {
    draft: aegis_vault::TableDraft,
    subjects: Vec<Subject>,
    class_of: Vec<u16>,
}

/// A governed table being written; nothing is visible before `Vault.store_tables`.
#[pyclass(frozen, module = "aegis_engine")]
pub struct TableDraft {
    id: String,
    inner: UnderWay<Coming>,
}

/// By purpose: people who have consent now and had none, people from whom it was withheld.
type Told = Vec<(String, u64, u64)>;
type Classes = Vec<(String, Option<u32>, bool)>;
/// A draft, its classes, its terms, what the columns mean.
type Drafted<'py> = (
    PyRef<'py, TableDraft>,
    Classes,
    Bound<'py, PyDict>,
    Option<String>,
);
/// People by purpose; None for everybody in the tables.
type Grants = BTreeMap<String, Option<Vec<String>>>;

impl TableDraft {
    /// The people of the next rows, all of the first class.
    fn take_rows(&self, people: impl Iterator<Item = Subject>) -> Result<()> {
        self.inner.with(|coming| {
            coming.subjects.extend(people);
            coming.class_of.resize(coming.subjects.len(), 0);
            Ok(())
        })
    }
}

#[pymethods]
impl TableDraft {
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    #[getter]
    fn closed(&self) -> bool {
        self.inner.closed()
    }

    /// Rows whose people are known.
    #[getter]
    fn rows(&self) -> Result<usize> {
        self.inner.with(|coming| Ok(coming.subjects.len()))
    }

    /// Different people among them.
    #[getter]
    fn people(&self) -> Result<usize> {
        self.inner
            .with(|coming| Ok(distinct(coming.subjects.iter()).len()))
    }

    fn tell(&self) -> Result<u64> {
        self.inner.with(|coming| Ok(coming.draft.written()))
    }

    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> Result<usize> {
        let data = Bytes::of(data)?;
        py.detach(|| {
            self.inner.with(|coming| {
                coming.draft.append(data.as_slice())?;
                Ok(data.as_slice().len())
            })
        })
    }

    fn readable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    fn seekable(&self) -> bool {
        false
    }

    fn flush(&self) {}

    /// Leaves nothing behind.
    fn abort(&self, py: Python<'_>) {
        let coming = self.inner.take();
        py.detach(|| drop(coming));
    }
}

#[pymethods]
impl Vault {
    #[pyo3(signature = (name, *, attrs=None))]
    fn create_table(&self, py: Python<'_>, name: String, attrs: Attrs) -> Result<TableDraft> {
        let meta = meta(Some(name), "", None, attrs);
        let draft = py.detach(|| self.inner.table_draft(meta))?;
        Ok(TableDraft {
            id: draft.id().to_string(),
            inner: UnderWay::new(Coming {
                draft,
                subjects: Vec::new(),
                class_of: Vec::new(),
            }),
        })
    }

    /// Says whom the next rows of a draft are about; see the stub.
    #[pyo3(signature = (draft, subjects, class_of=None))]
    fn table_rows(
        &self,
        py: Python<'_>,
        draft: &TableDraft,
        subjects: Vec<String>,
        class_of: Option<Vec<u16>>,
    ) -> Result<()> {
        let class_of = class_of.unwrap_or_else(|| vec![0; subjects.len()]);
        if class_of.len() != subjects.len() {
            return Err(
                PyValueError::new_err("class_of has one entry a row, as subjects has").into(),
            );
        }
        py.detach(|| {
            let people = self.inner.persons(&subjects)?;
            draft.inner.with(|coming| {
                coming.subjects.extend(people);
                coming.class_of.extend(class_of);
                Ok(())
            })
        })
    }

    /// Says whom the next rows are about, and gives each its side; see the stub.
    fn split_rows(
        &self,
        py: Python<'_>,
        sides: (PyRef<'_, TableDraft>, Option<PyRef<'_, TableDraft>>),
        share: f64,
        people: (Bound<'_, PyAny>, Bound<'_, PyAny>),
        person_of: &Bound<'_, PyAny>,
    ) -> Result<Py<PyBytes>> {
        let (text, ends) = (Bytes::of(&people.0)?, Bytes::of(&people.1)?);
        let person_of = Bytes::of(person_of)?;
        let (train, holdout) = (&*sides.0, sides.1.as_deref());
        let sides = py.detach(|| -> Result<_> {
            let people = self
                .inner
                .people(names(text.as_slice(), ends.as_slice())?.into_iter())?;
            let out = match holdout {
                Some(_) => self.inner.drawn_out(&people, share)?,
                None => vec![false; people.len()],
            };
            // Everything is looked at before a draft takes anything.
            let rows = places(person_of.as_slice(), people.len())?;
            let of = |side: bool| {
                let (people, out) = (&people, &out);
                let rows = rows.iter().filter(move |at| out[**at] == side);
                rows.map(move |at| people[*at])
            };
            train.take_rows(of(false))?;
            if let Some(holdout) = holdout {
                holdout.take_rows(of(true))?;
            }
            Ok(rows
                .iter()
                .map(|at| u8::from(out[*at]))
                .collect::<Vec<u8>>())
        })?;
        Ok(PyBytes::new(py, &sides).unbind())
    }

    /// Makes drafts visible together; see the stub.
    #[pyo3(signature = (drafts, *, grant=None))]
    fn store_tables(
        &self,
        py: Python<'_>,
        drafts: Vec<Drafted<'_>>,
        grant: Option<Grants>,
    ) -> Result<(Vec<String>, Told)> {
        let tables = drafts
            .into_iter()
            .map(governed)
            .collect::<Result<Vec<_>>>()?;
        let (ids, granted) = py.detach(|| -> Result<_> {
            let consents = self.consents(grant, &tables)?;
            Ok(self.inner.store_drafts(tables, consents)?)
        })?;
        Ok(told(&ids, granted))
    }

    /// Puts the rows of drafts behind those of data sets; see the stub.
    #[pyo3(signature = (drafts, *, grant=None, reason=""))]
    fn extend_tables(
        &self,
        py: Python<'_>,
        drafts: Vec<(String, Drafted<'_>)>,
        grant: Option<Grants>,
        reason: &str,
    ) -> Result<(Vec<String>, Told)> {
        let mut objects = Vec::with_capacity(drafts.len());
        let mut tables = Vec::with_capacity(drafts.len());
        for (dataset, draft) in drafts {
            objects.push(uuid(&dataset)?);
            tables.push(governed(draft)?);
        }
        let (ids, granted) = py.detach(|| -> Result<_> {
            let consents = self.consents(grant, &tables)?;
            let pairs = objects.into_iter().zip(tables).collect();
            Ok(self.inner.extend_tables(pairs, consents, reason)?)
        })?;
        Ok(told(&ids, granted))
    }
}

impl Vault {
    /// Whose consent comes with the data: of the people named, of everybody in the tables where nobody is.
    fn consents(&self, grant: Option<Grants>, tables: &[Governed]) -> Result<Consents> {
        let all = || {
            tables
                .iter()
                .flat_map(|table| table.index.subjects.iter().copied())
        };
        let mut consents = Consents::new();
        for (purpose, people) in grant.unwrap_or_default() {
            let people = match people {
                Some(people) => self.inner.persons(&people)?,
                None => all().collect(),
            };
            consents.push((purpose, people));
        }
        Ok(consents)
    }
}

fn wrong(what: &'static str) -> Fault {
    PyValueError::new_err(what).into()
}

/// The numbers of a buffer, in the machine's order.
fn numbers(bytes: &[u8]) -> Result<impl Iterator<Item = Option<usize>> + Clone> {
    let (words, []) = bytes.as_chunks::<4>() else {
        return Err(wrong("a buffer of 32-bit numbers has 4 bytes for each"));
    };
    let number = |word: &[u8; 4]| usize::try_from(i32::from_ne_bytes(*word)).ok();
    Ok(words.iter().map(number))
}

/// The texts of an Arrow column without nulls: its bytes, and where the first starts and each ends.
fn names<'b>(text: &'b [u8], ends: &[u8]) -> Result<Vec<&'b str>> {
    let ends = numbers(ends)?;
    let pairs = ends.clone().zip(ends.skip(1));
    let names = pairs.map(|(start, end)| {
        let name = text.get(start?..end?)?;
        std::str::from_utf8(name).ok()
    });
    let names: Option<Vec<&str>> = names.collect();
    names.ok_or_else(|| wrong("people are UTF-8, each from one offset to the next"))
}

/// The person of each row.
fn places(person_of: &[u8], people: usize) -> Result<Vec<usize>> {
    let places = numbers(person_of)?.map(|at| at.filter(|at| *at < people));
    let places: Option<Vec<usize>> = places.collect();
    places.ok_or_else(|| wrong("person_of has numbers of people that were not given"))
}

fn governed((draft, classes, terms, about): Drafted<'_>) -> Result<Governed> {
    let facts: DatasetFacts = serde_json::from_value(to_json(&terms)?)
        .map_err(|e| PyValueError::new_err(format!("terms of the data set: {e}")))?;
    let coming = draft.inner.take().ok_or(Fault::Vault(VaultError::Closed))?;
    let class = |(basis, delete_after, special)| Class {
        basis,
        delete_after,
        special,
    };
    Ok(Governed {
        draft: coming.draft,
        index: RowIndex {
            classes: classes.into_iter().map(class).collect(),
            class_of: coming.class_of,
            subjects: coming.subjects,
        },
        facts,
        about,
    })
}

fn told(ids: &[Uuid], granted: Vec<Granted>) -> (Vec<String>, Told) {
    let told = granted
        .into_iter()
        .map(|g| (g.purpose, g.granted, g.withheld));
    (ids.iter().map(Uuid::to_string).collect(), told.collect())
}
