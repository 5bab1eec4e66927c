//! Terms of a dataset that change: narrower at the steward's will, wider with a reason that is put on record.
//!
//! Rows and terms are sealed anew under fresh keys and the old keys are destroyed, so nobody can put the earlier terms back. The
//! dataset has a new id; name, rows, people and lineages stay, and with them what was spent. Permits that were granted under the
//! earlier terms end.

use aegis_audit::Event;
use aegis_policy::{Class, DatasetFacts};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::dataset::described;
use crate::error::{Result, VaultError};
use crate::format::header::CHUNK_LOG2;
use crate::format::keystore::Kind;
use crate::format::meta::ROWS_ATTR;
use crate::object::draft::ObjectRandomness;
use crate::object::writer::ObjectWriter;
use crate::ops::reencrypt::{Source, Swap};
use crate::vault::Vault;

/// Bytes of a reason, at most.
const REASON_MAX: usize = 1024;

/// What may change of a dataset's terms. `None`: it stays.
#[derive(Debug, Clone, Default)]
pub struct Amendment {
    /// The terms as they shall be; columns, role and lineages stay whatever is in it.
    pub facts: Option<DatasetFacts>,
    /// Last day of use of every row, days since 1970-01-01.
    pub last_day: Option<u32>,
    /// Why; needed where anything becomes wider.
    pub reason: String,
}

/// What an amendment did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Amended {
    /// The dataset's id now.
    pub dataset: String,
    /// Terms that allow less than before.
    pub narrower: Vec<&'static str>,
    /// Terms that allow more, or something else, than before.
    pub wider: Vec<&'static str>,
}

impl Amended {
    fn note(&mut self, name: &'static str, wider: bool, narrower: bool) {
        if wider {
            self.wider.push(name);
        } else if narrower {
            self.narrower.push(name);
        }
    }
}

impl Vault {
    /// Changes the terms of a dataset.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when nothing changes, or when something becomes wider and no reason is given: nothing has
    /// happened then.
    pub fn amend(&self, object: Uuid, amendment: &Amendment) -> Result<Amended> {
        let inner = &self.inner;
        let dataset = self.dataset(object)?;
        let old = &dataset.facts;
        let mut facts = amendment.facts.clone().unwrap_or_else(|| old.clone());
        facts.columns.clone_from(&old.columns);
        facts.role = old.role;
        facts.lineages = dataset.lineages(self)?;
        facts.check()?;
        let mut index = dataset.index.clone();
        if let Some(day) = amendment.last_day {
            for class in &mut index.classes {
                class.delete_after = Some(day);
            }
        }
        let mut amended = compare(old, &facts, &dataset.index.classes, &index.classes);
        if amended.wider.is_empty() && amended.narrower.is_empty() {
            let what = "the terms are these already; nothing was changed".to_owned();
            return Err(VaultError::BadRequest { what });
        }
        let reason = amendment.reason.trim();
        if reason.len() > REASON_MAX {
            let what = format!("a reason has at most {REASON_MAX} bytes");
            return Err(VaultError::BadRequest { what });
        }
        if !amended.wider.is_empty() && reason.is_empty() {
            let what = format!(
                "{} would become wider than before; give the reason, which is put on record",
                amended.wider.join(", ")
            );
            return Err(VaultError::BadRequest { what });
        }
        let source = Source::open(inner, object)?;
        let seed = ObjectRandomness {
            created: source.record.created,
            ..ObjectRandomness::fresh()?
        };
        let new = seed.object;
        let about = Source::open(inner, source.record.rows.unwrap_or(object))?.meta();
        let fresh = ObjectRandomness::fresh()?;
        let sidecar = ObjectWriter::begin(inner, about, CHUNK_LOG2, Kind::Rows, None, fresh)?;
        let rows = described(sidecar, new, &dataset.layout, &index, &facts)?;
        let mut meta = source.meta();
        meta.attrs
            .insert(ROWS_ATTR.to_owned(), rows.id().to_string());
        let log2 = source.file.header.chunk_log2;
        let mut writer = ObjectWriter::begin(inner, meta, log2, Kind::Data, Some(rows.id()), seed)?;
        source.each(|plain, len| writer.append(&plain[..len]))?;
        let mut data = writer.complete()?;
        data.record.name.clone_from(&source.record.name);
        new.to_string().clone_into(&mut amended.dataset);
        let told = json!({
            "object": object.to_string(),
            "replaced_by": amended.dataset,
            "narrower": amended.narrower,
            "wider": amended.wider,
            "reason": reason,
        });
        let swap = Swap {
            old: source.record,
            new: vec![rows, data],
        };
        self.replace_with(vec![swap], |exclusive| {
            exclusive.inner.log.record(Event::Amend, told)?;
            Ok(())
        })?;
        Ok(amended)
    }
}

fn compare(old: &DatasetFacts, new: &DatasetFacts, before: &[Class], after: &[Class]) -> Amended {
    let mut found = Amended {
        dataset: String::new(),
        narrower: Vec::new(),
        wider: Vec::new(),
    };
    let sets = [
        ("purposes", &old.purposes, &new.purposes),
        (
            "approved_columns",
            &old.approved_columns,
            &new.approved_columns,
        ),
    ];
    for (name, old, new) in sets {
        found.note(name, !new.is_subset(old), new != old);
    }
    // Larger is wider.
    let grows = [
        (
            "budget_epsilon",
            old.budget_micro_epsilon,
            new.budget_micro_epsilon,
        ),
        ("delta", old.delta_femto, new.delta_femto),
        ("max_evaluations", old.max_evaluations, new.max_evaluations),
        // Smaller is wider.
        ("min_rows", new.min_rows, old.min_rows),
        ("min_subjects", new.min_subjects, old.min_subjects),
        (
            "require_dp",
            u64::from(new.require_dp),
            u64::from(old.require_dp),
        ),
        (
            "require_secure_aggregation",
            u64::from(new.require_secure_aggregation),
            u64::from(old.require_secure_aggregation),
        ),
    ];
    for (name, old, new) in grows {
        found.note(name, new > old, new < old);
    }
    found.note("controller", new.controller != old.controller, false);
    let day = |class: &Class| class.delete_after.unwrap_or(u32::MAX);
    let pairs = || before.iter().zip(after);
    found.note(
        "retention_days",
        pairs().any(|(old, new)| day(new) > day(old)),
        pairs().any(|(old, new)| day(new) < day(old)),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut DatasetFacts);

    #[test]
    fn every_term_is_compared() {
        let old = DatasetFacts {
            purposes: ["a".to_owned(), "b".to_owned()].into(),
            columns: vec!["x".to_owned(), "y".to_owned()],
            approved_columns: ["x".to_owned(), "y".to_owned()].into(),
            min_rows: 5,
            min_subjects: 5,
            budget_micro_epsilon: 100,
            delta_femto: 10_000,
            max_evaluations: 5,
            ..DatasetFacts::default()
        };
        // Fields are named without a rest, so that a new term does not build before it has its place here.
        let DatasetFacts {
            purposes: _,
            columns: _,
            approved_columns: _,
            min_rows: _,
            min_subjects: _,
            require_dp: _,
            require_secure_aggregation: _,
            budget_micro_epsilon: _,
            controller: _,
            role: _,
            lineages: _,
            delta_femto: _,
            max_evaluations: _,
        } = old.clone();
        let cases: [(&str, Change, Option<Change>); 9] = [
            (
                "purposes",
                |f| f.purposes = ["a".to_owned(), "c".to_owned()].into(),
                Some(|f| f.purposes = ["a".to_owned()].into()),
            ),
            (
                "approved_columns",
                |f| f.approved_columns = ["z".to_owned()].into(),
                Some(|f| f.approved_columns = ["x".to_owned()].into()),
            ),
            ("min_rows", |f| f.min_rows = 4, Some(|f| f.min_rows = 6)),
            (
                "min_subjects",
                |f| f.min_subjects = 4,
                Some(|f| f.min_subjects = 6),
            ),
            ("require_dp", |f| f.require_dp = false, None),
            (
                "require_secure_aggregation",
                |f| f.require_secure_aggregation = false,
                None,
            ),
            (
                "budget_epsilon",
                |f| f.budget_micro_epsilon = 101,
                Some(|f| f.budget_micro_epsilon = 99),
            ),
            (
                "delta",
                |f| f.delta_femto = 10_001,
                Some(|f| f.delta_femto = 9_999),
            ),
            (
                "max_evaluations",
                |f| f.max_evaluations = 6,
                Some(|f| f.max_evaluations = 4),
            ),
        ];
        for (name, widen, narrow) in cases {
            let mut wide = old.clone();
            widen(&mut wide);
            let found = compare(&old, &wide, &[], &[]);
            assert_eq!((found.wider, found.narrower.len()), (vec![name], 0));
            if let Some(narrow) = narrow {
                let mut slim = old.clone();
                narrow(&mut slim);
                let found = compare(&old, &slim, &[], &[]);
                assert_eq!((found.wider.len(), found.narrower), (0, vec![name]));
            }
        }
        let class = |day| Class {
            basis: "consent".to_owned(),
            delete_after: day,
            special: false,
        };
        let days = |a, b| compare(&old, &old, &[class(a)], &[class(b)]);
        assert_eq!(days(Some(5), Some(6)).wider, ["retention_days"]);
        assert_eq!(days(Some(5), Some(4)).narrower, ["retention_days"]);
        assert_eq!(days(None, Some(4)).narrower, ["retention_days"]);
    }
}
