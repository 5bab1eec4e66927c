//! The class and the subject of every row, and their sealed form.

use std::fmt;

use super::facts::BASES;
use super::subject::{Subject, count_distinct};
use crate::error::PolicyError;

/// Most classes one dataset may have: each costs a policy decision.
pub const MAX_CLASSES: usize = 4096;

/// What rows have in common before the law. Rows of one class and one state of consent get one decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class {
    /// Legal basis, one of [`BASES`].
    pub basis: String,
    /// Last day on which the rows may be used, in days since 1970-01-01.
    pub delete_after: Option<u32>,
    /// Special category of data (GDPR article 9).
    pub special: bool,
}

/// The class and the subject of every row.
#[derive(Clone, PartialEq, Eq)]
pub struct RowIndex {
    /// The classes.
    pub classes: Vec<Class>,
    /// A row's class, by position in `classes`.
    pub class_of: Vec<u16>,
    /// A row's subject.
    pub subjects: Vec<Subject>,
}

impl fmt::Debug for RowIndex {
    // Pseudonyms are personal data too (GDPR recital 26).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RowIndex({} rows, {} classes)",
            self.class_of.len(),
            self.classes.len()
        )
    }
}

pub(crate) const MAGIC: &[u8; 8] = b"AEGISRI1";

const HEAD: usize = 16;

const CLASS: usize = 8;

const ROW: usize = 2 + 16;

impl RowIndex {
    /// Number of rows.
    pub fn len(&self) -> u32 {
        // `check` bounds it; an unchecked longer index only loses rows here, it never gains any.
        u32::try_from(self.class_of.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.class_of.is_empty()
    }

    /// Whether the parts fit together: one class and one subject a row, known classes, known legal bases.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.classes.len() > MAX_CLASSES {
            return Err(PolicyError::bad(format!(
                "{} row classes, at most {MAX_CLASSES}: round retention dates to months",
                self.classes.len()
            )));
        }
        if u32::try_from(self.class_of.len()).is_err() {
            return Err(PolicyError::bad(
                "more than 2^32-1 rows in one dataset: split it",
            ));
        }
        if self.class_of.len() != self.subjects.len() {
            return Err(PolicyError::bad(format!(
                "{} rows have a class but {} have a subject: give each row both",
                self.class_of.len(),
                self.subjects.len()
            )));
        }
        if let Some(row) = self
            .class_of
            .iter()
            .position(|c| usize::from(*c) >= self.classes.len())
        {
            return Err(PolicyError::bad(format!(
                "row {row} names a class that the index does not have"
            )));
        }
        if let Some(class) = self
            .classes
            .iter()
            .position(|c| !BASES.contains(&c.basis.as_str()))
        {
            return Err(PolicyError::bad(format!(
                "class {class} has an unknown legal basis: use one of {}",
                BASES.join(", ")
            )));
        }
        Ok(())
    }

    /// Places of the rows whose subject is kept.
    pub fn places(&self, kept: impl Fn(&Subject) -> bool) -> Vec<usize> {
        let rows = self.subjects.iter().enumerate();
        rows.filter_map(|(row, subject)| kept(subject).then_some(row))
            .collect()
    }

    /// The rows at these places, in this order. Every class stays.
    #[must_use]
    pub fn select(&self, places: &[usize]) -> Self {
        Self {
            classes: self.classes.clone(),
            class_of: places.iter().map(|row| self.class_of[*row]).collect(),
            subjects: places.iter().map(|row| self.subjects[*row]).collect(),
        }
    }

    /// Puts rows behind these. A class that is here already is not here twice.
    pub fn join(&mut self, more: &Self) -> Result<(), PolicyError> {
        let mut place = Vec::with_capacity(more.classes.len());
        for class in &more.classes {
            let known = self.classes.iter().position(|other| other == class);
            let at = known.unwrap_or_else(|| {
                self.classes.push(class.clone());
                self.classes.len() - 1
            });
            place.push(
                u16::try_from(at).map_err(|_| {
                    PolicyError::bad(format!("more than {MAX_CLASSES} row classes"))
                })?,
            );
        }
        let all = more.class_of.iter().map(|class| place[usize::from(*class)]);
        self.class_of.extend(all);
        self.subjects.extend_from_slice(&more.subjects);
        self.check()
    }

    /// Distinct subjects.
    pub fn distinct_subjects(&self) -> u64 {
        count_distinct(self.subjects.iter())
    }

    /// Bytes for a sealed object. Layout, integers little-endian: `AEGISRI1`, u32 classes, u32 rows; a class is
    /// u8 basis (position in [`BASES`]), u8 bits (1 special, 2 has a last day), u16 zero, u32 last day or zero;
    /// then u16 class a row; then 16 bytes subject a row.
    pub fn encode(&self) -> Result<Vec<u8>, PolicyError> {
        self.check()?;
        let mut out =
            Vec::with_capacity(HEAD + CLASS * self.classes.len() + ROW * self.class_of.len());
        out.extend_from_slice(MAGIC);
        // `check` bounds both: 4096 classes, 2^32-1 rows.
        out.extend_from_slice(
            &u32::try_from(self.classes.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        out.extend_from_slice(&self.len().to_le_bytes());
        for class in &self.classes {
            let basis = BASES
                .iter()
                .position(|b| *b == class.basis)
                .unwrap_or(BASES.len());
            out.push(u8::try_from(basis).unwrap_or(u8::MAX));
            out.push(u8::from(class.special) | u8::from(class.delete_after.is_some()) << 1);
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&class.delete_after.unwrap_or(0).to_le_bytes());
        }
        out.extend(self.class_of.iter().flat_map(|class| class.to_le_bytes()));
        out.extend(self.subjects.iter().flatten());
        Ok(out)
    }

    /// Reads [`RowIndex::encode`]. Refuses anything that `encode` does not write, to the byte; lengths are checked
    /// against the input before memory is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyError> {
        let bad = |what: &str| {
            PolicyError::bad(format!(
                "row index is damaged: {what}; restore it from a copy"
            ))
        };
        let (head, rest) = bytes
            .split_first_chunk::<HEAD>()
            .ok_or_else(|| bad("no header"))?;
        if &head[..8] != MAGIC {
            return Err(bad("wrong magic"));
        }
        let classes = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let rows = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
        if classes > MAX_CLASSES
            || rest.len() as u64 != (CLASS * classes) as u64 + ROW as u64 * rows as u64
        {
            return Err(bad("wrong length"));
        }
        let (kinds, rest) = rest.split_at(CLASS * classes);
        let (class_of, subjects) = rest.split_at(2 * rows);
        let classes = kinds
            .chunks_exact(CLASS)
            .map(decode_class)
            .collect::<Option<_>>()
            .ok_or_else(|| bad("class"))?;
        let index = Self {
            classes,
            class_of: class_of
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]))
                .collect(),
            subjects: subjects.as_chunks::<16>().0.to_vec(),
        };
        index.check()?;
        Ok(index)
    }
}

fn decode_class(bytes: &[u8]) -> Option<Class> {
    let [basis, bits, 0, 0, day @ ..] = bytes else {
        return None;
    };
    let day = u32::from_le_bytes(day.try_into().ok()?);
    let dated = bits & 2 == 2;
    // One meaning, one encoding: unknown bits and a day without its bit are refused.
    if *bits > 3 || (!dated && day != 0) {
        return None;
    }
    let basis = (*BASES.get(usize::from(*basis))?).to_owned();
    Some(Class {
        basis,
        delete_after: dated.then_some(day),
        special: bits & 1 == 1,
    })
}
