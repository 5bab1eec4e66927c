//! The decision itself: the clock, the dataset, then its rows. And what to tell who is refused.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::Engine;
use super::outcome::{CLOCK, MINIMUM, Outcome};
use super::request::{Request, day, whole};
use super::rows::Question;
use crate::bundle::DEFAULT_DENY;
use crate::cedar::{Asker, ERASED, use_context};
use crate::consent::ConsentLedger;
use crate::error::PolicyError;
use crate::permit::Action;
use crate::rows::{DatasetFacts, RowIndex, RowSet};

/// How far the clock may go back (leap smearing, small corrections by NTP).
const CLOCK_SLACK_MS: u64 = 2_000;

impl Engine {
    pub(super) fn decide(
        &self,
        request: &Request,
        facts: &DatasetFacts,
        index: &RowIndex,
        candidates: Option<&RowSet>,
        consent: &ConsentLedger,
        now: u64,
    ) -> Result<Outcome, PolicyError> {
        let view = consent.view()?;
        let mut outcome = Outcome {
            allowed: false,
            policies: BTreeSet::new(),
            errors: Vec::new(),
            epoch: view.epoch(),
            watch: view.watch(),
            rows: None,
        };
        if !self.clock_runs_forward(now) {
            outcome.policies.insert(CLOCK.into());
            outcome
                .errors
                .push("the system clock is behind the newest time on record".into());
            return Ok(outcome);
        }
        let today = request.today.unwrap_or_else(|| day(now));
        let columns = if whole(request) {
            &facts.columns
        } else {
            &request.columns
        };
        let context = use_context(&request.purpose, columns, request.round, today)?;
        let object = request.object.to_string();
        let asker = Asker::new(
            &self.bundle,
            &request.run,
            &request.node,
            &request.app_hash,
            &object,
            facts,
        )?;
        let action = request.action.name();

        let verdict = asker.dataset(action, &context)?;
        outcome.policies = verdict.policies;
        outcome.errors = verdict.errors;
        if !verdict.allow {
            return Ok(outcome);
        }
        // Only now: who may not have a column must not learn whether there is one of that name.
        if let Some(column) = columns
            .iter()
            .find(|column| !facts.columns.contains(column))
        {
            return Err(PolicyError::bad(format!(
                "the dataset has no column {column:?}"
            )));
        }
        let question = Question {
            asker: &asker,
            action,
            context: &context,
            purpose: &request.purpose,
            object: request.object,
            index,
            candidates,
            consent: &view,
        };
        let decided = question.decide()?;
        outcome.errors.extend(decided.errors.iter().cloned());
        // A bundle that fails on some rows cannot be trusted on the others. An export of everything is all or nothing.
        let minimum = request.action == Action::Evaluate
            && (decided.allowed.len() < facts.min_rows || decided.subjects < facts.min_subjects);
        let refused = minimum
            || !decided.errors.is_empty()
            || decided.allowed.is_empty()
            || (whole(request) && !decided.denied.is_empty());
        if refused {
            outcome.policies = decided.denied.keys().cloned().collect();
            if minimum {
                outcome.policies.insert(MINIMUM.into());
            }
            if outcome.policies.is_empty() {
                outcome.policies.insert(DEFAULT_DENY.into());
            }
        } else {
            outcome
                .policies
                .extend(decided.permitted_by.iter().cloned());
        }
        outcome.allowed = !refused;
        outcome.rows = Some(decided);
        Ok(outcome)
    }

    /// False when `now` lies behind the latest time seen.
    fn clock_runs_forward(&self, now: u64) -> bool {
        let latest = self.latest.fetch_max(now, Ordering::AcqRel);
        now.saturating_add(CLOCK_SLACK_MS) >= latest
    }

    pub(crate) fn denied(&self, policies: BTreeSet<String>, what: String) -> PolicyError {
        let advice = self.advice(&policies);
        PolicyError::Denied {
            policies: policies.into_iter().collect(),
            advice,
            what,
        }
    }

    pub(super) fn advice(&self, policies: &BTreeSet<String>) -> String {
        let one = |id: &String| match id.as_str() {
            DEFAULT_DENY => "nothing permits this; ask who maintains the policy bundle",
            CLOCK => "set the clock right: it is behind the newest record of the audit log",
            MINIMUM => "evaluate on more rows and more people, or leave this node's holdout out",
            // Here, not in the bundle: vaults are pinned to the bundle's bytes.
            ERASED | "core.erased" => {
                "the subjects of these rows are erased; remove the rows (aegis vault erase-person)"
            }
            "core.retention" => {
                "the retention time of these rows is over; shred the data set (aegis vault shred) and store what may be kept anew"
            }
            id => self
                .bundle
                .advice(id)
                .unwrap_or("ask who maintains the policy bundle"),
        };
        let advice: Vec<&str> = policies.iter().map(one).collect();
        advice.join("; ")
    }
}
