//! Steps of the decision to let data in may be put here: request in, audit record to disk, permit out. Fails closed at every step.

mod decide;
mod outcome;
mod probe;
mod record;
mod request;
pub(crate) mod rows;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_audit::Log;
use uuid::Uuid;

use self::outcome::Outcome;
pub use self::outcome::{Authorized, CLOCK, Explanation, MINIMUM};
pub use self::request::{MAX_VALID_FOR, Request};
use self::request::{check, lifetime, now_ms, what, whole};

use crate::bundle::Bundle;
use crate::consent::ConsentLedger;
use crate::error::PolicyError;
use crate::permit::{Authority, Grant, Permit, Scope};
use crate::rows::{DatasetFacts, RowIndex, RowSet};

/// Decides by one bundle. Shared between threads.
#[derive(Debug)]
pub struct Engine {
    bundle: Bundle,
    /// The latest time seen, in ms since 1970.
    pub(crate) latest: AtomicU64,
}

impl Engine {
    /// An engine for the bundle; refuses a bundle whose schema has no words for the engine's questions.
    pub fn new(bundle: Bundle) -> Result<Self, PolicyError> {
        probe::probe(&bundle)?;
        Ok(Self {
            bundle,
            latest: AtomicU64::new(0),
        })
    }

    /// Nothing is decided on a time before this one (ms since 1970): some other process has seen it.
    pub fn not_before(&self, time: u64) {
        self.latest.fetch_max(time, Ordering::AcqRel);
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Decides, writes the decision down, and gives a permit for the rows that are allowed.
    ///
    /// `candidates` narrows the rows (a train split); rows outside it are neither allowed nor counted as denied.
    ///
    /// # Errors
    /// [`PolicyError::Denied`] when the dataset or every row is denied. Whatever the error, there is no permit; each
    /// decision, and each fault that prevented one, is in the log. Only a malformed request ([`PolicyError::BadRequest`])
    /// is not: it asks nothing.
    pub fn authorize(
        &self,
        request: &Request,
        facts: &DatasetFacts,
        rows: &RowIndex,
        candidates: Option<&RowSet>,
        consent: &ConsentLedger,
        log: &Log,
    ) -> Result<Authorized, PolicyError> {
        check(request, rows, candidates)?;
        let now = now_ms();
        let outcome = match self.decide(request, facts, rows, candidates, consent, now) {
            Ok(outcome) => outcome,
            Err(fault) => {
                // The record of a fault is for the reader of the log; when it fails, too, the fault itself matters.
                let _ = log.append(&self.record(request, None, None, &[fault.to_string()]));
                return Err(fault);
            }
        };
        let id = outcome.allowed.then(Uuid::new_v4);
        let record = log.append(&self.record(request, Some(&outcome), id, &outcome.errors))?;
        let Outcome {
            policies,
            epoch,
            watch,
            rows: decided,
            ..
        } = outcome;
        let (Some(id), Some(decided)) = (id, decided) else {
            return Err(self.denied(policies, what(request)));
        };
        let scope = if whole(request) {
            Scope::Whole
        } else {
            Scope::Rows {
                rows: decided.allowed,
                columns: request.columns.clone(),
            }
        };
        let grant = Grant {
            vault: request.vault,
            object: request.object,
            authority: Authority::Bundle(self.bundle.hash()),
            action: request.action,
            purpose: request.purpose.clone(),
            run: request.run.clone(),
            round: request.round,
            node: request.node.clone(),
            app_hash: request.app_hash.clone(),
            facts: facts.hash(),
            scope,
            subjects: decided.subjects,
            subject_rows_max: decided.subject_rows_max,
            valid_for: lifetime(request, decided.last_day, now),
            audit_seq: record.seq,
            ledger_epoch: epoch,
            watch: Some(watch),
        };
        Ok(Authorized {
            permit: Permit::issue(id, grant),
            denied: decided.denied,
        })
    }

    /// The decision [`Engine::authorize`] would make, with nothing logged and no permit.
    pub fn explain(
        &self,
        request: &Request,
        facts: &DatasetFacts,
        rows: &RowIndex,
        candidates: Option<&RowSet>,
        consent: &ConsentLedger,
    ) -> Result<Explanation, PolicyError> {
        check(request, rows, candidates)?;
        let outcome = self.decide(request, facts, rows, candidates, consent, now_ms())?;
        let allowed = outcome.allowed;
        let (rows, subjects, denied) = outcome.rows.map_or((0, 0, BTreeMap::new()), |d| {
            (d.allowed.len(), d.subjects, d.denied)
        });
        Ok(Explanation {
            allowed,
            advice: if allowed {
                String::new()
            } else {
                self.advice(&outcome.policies)
            },
            policies: outcome.policies.into_iter().collect(),
            errors: outcome.errors,
            rows: if allowed { rows } else { 0 },
            subjects: if allowed { subjects } else { 0 },
            denied,
            ledger_epoch: outcome.epoch,
        })
    }
}
