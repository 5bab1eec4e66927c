//! Terms of a dataset that change: narrower at the steward's will, wider with a reason that is put on record.
//!
//! Rows and terms are sealed anew under fresh keys and the old keys are destroyed, so nobody can put the earlier terms back. The
//! dataset has a new id; name, rows, people and lineages stay, and with them what was spent. Permits that were granted under the
//! earlier terms end.

use std::sync::Arc;

use aegis_audit::Event;
use aegis_policy::{Class, DatasetFacts, RowIndex};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::dataset::anew::Anew;
use crate::dataset::promise::{BUDGET, DELTA};
use crate::error::{Result, VaultError};
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
    /// As [`amend_together`](Self::amend_together).
    pub fn amend(&self, object: Uuid, amendment: &Amendment) -> Result<Amended> {
        let mut one = self.amend_together(&[(object, amendment.clone())])?;
        one.pop().ok_or(VaultError::Closed)
    }

    /// Changes the terms of datasets, of all of them or of none: a dataset and its holdout. One whose terms are these already
    /// stays as it is, with its id.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when nothing changes, when a dataset is named twice, or when something becomes wider and no
    /// reason is given: nothing has happened then.
    pub fn amend_together(&self, amendments: &[(Uuid, Amendment)]) -> Result<Vec<Amended>> {
        let mut plans = Vec::with_capacity(amendments.len());
        for (at, (object, amendment)) in amendments.iter().enumerate() {
            if amendments[..at].iter().any(|(other, _)| other == object) {
                return Err(bad(format!("data set {object} is named twice")));
            }
            plans.push(self.planned(*object, amendment)?);
        }
        if plans.iter().all(Plan::changes_nothing) {
            return Err(bad(
                "the terms are these already; nothing was changed".to_owned()
            ));
        }
        let mut swaps = Vec::new();
        for plan in &mut plans {
            if !plan.changes_nothing() {
                let swap = self.under_terms(plan)?;
                plan.amended.dataset = swap.new_id().to_string();
                swaps.push(swap);
            }
        }
        let changed = || plans.iter().filter(|plan| !plan.changes_nothing());
        self.replace_with(
            swaps,
            |_| Ok(()),
            |exclusive| {
                for plan in changed() {
                    self.note_promise(exclusive, &plan.facts, &plan.amended.wider)?;
                    let amended = &plan.amended;
                    let told = json!({
                        "object": plan.dataset.id.to_string(),
                        "replaced_by": amended.dataset,
                        "narrower": amended.narrower,
                        "wider": amended.wider,
                        "reason": plan.reason,
                    });
                    exclusive.inner.log.record(Event::Amend, told)?;
                }
                Ok(())
            },
        )?;
        Ok(plans.into_iter().map(|plan| plan.amended).collect())
    }

    /// What an amendment would do; nothing is written.
    fn planned(&self, object: Uuid, amendment: &Amendment) -> Result<Plan> {
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
        object.to_string().clone_into(&mut amended.dataset);
        let reason = reasoned(&amended.wider, &amendment.reason)?;
        Ok(Plan {
            dataset,
            facts,
            index,
            amended,
            reason,
        })
    }

    /// The same rows under other terms; nothing of it is visible yet.
    fn under_terms(&self, plan: &Plan) -> Result<Swap> {
        let source = Source::open(&self.inner, plan.dataset.id)?;
        let log2 = source.file.header.chunk_log2;
        let mut anew = Anew::begin(self, &source.record, source.meta(), log2)?;
        source.each(|plain, len| anew.data.append(&plain[..len]))?;
        anew.finish(&plan.dataset.layout, &plan.index, &plan.facts)
    }
}

struct Plan {
    dataset: Arc<Dataset>,
    facts: DatasetFacts,
    index: RowIndex,
    amended: Amended,
    reason: String,
}

impl Plan {
    fn changes_nothing(&self) -> bool {
        self.amended.wider.is_empty() && self.amended.narrower.is_empty()
    }
}

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

/// The reason as it goes on record: there must be one where anything becomes wider.
pub(crate) fn reasoned(wider: &[&str], reason: &str) -> Result<String> {
    let reason = reason.trim();
    if reason.len() > REASON_MAX {
        return Err(bad(format!("a reason has at most {REASON_MAX} bytes")));
    }
    if !wider.is_empty() && reason.is_empty() {
        return Err(bad(format!(
            "{} would become wider than before; give the reason, which is put on record",
            wider.join(", ")
        )));
    }
    Ok(reason.to_owned())
}

/// What a delivery brings that no class of the dataset allows: another lawful basis, rows of a special category as ordinary
/// ones, a later last day. A delivery brings rows, and terms are changed by an amendment.
#[cfg(feature = "tables")]
pub(crate) fn beyond(classes: &[Class], delivered: &[Class]) -> Vec<&'static str> {
    let day = |class: &Class| class.delete_after.unwrap_or(u32::MAX);
    let mut wider = Vec::new();
    for new in delivered {
        let alike = |old: &&Class| old.basis == new.basis;
        let as_special = |old: &&Class| new.special || !old.special;
        let old = || classes.iter().filter(alike);
        let name = if old().next().is_none() {
            "basis"
        } else if !old().any(|old| as_special(&old)) {
            "special"
        } else if !old().filter(as_special).any(|old| day(new) <= day(old)) {
            "retention_days"
        } else {
            continue;
        };
        if !wider.contains(&name) {
            wider.push(name);
        }
    }
    wider
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
        (BUDGET, old.budget_micro_epsilon, new.budget_micro_epsilon),
        (DELTA, old.delta_femto, new.delta_femto),
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
