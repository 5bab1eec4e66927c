//! The decision: request in, audit record to disk, permit out. Fails closed at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aegis_audit::{Event, Log};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bulk::{Decided, Question};
use crate::bundle::{Bundle, DEFAULT_DENY};
use crate::cedar::{Asker, ERASED, use_context};
use crate::consent::{ConsentLedger, Flags};
use crate::permit::{Action, Authority, Grant, Permit, Scope};
use crate::{Class, DatasetFacts, PolicyError, RowIndex, RowSet, hex};

/// The longest life of a permit.
pub const MAX_VALID_FOR: Duration = Duration::from_hours(24);

/// Id of the refusal by a clock that went back: retention and expiry mean nothing then.
pub const CLOCK: &str = "engine.clock";

/// Id of the refusal to measure on fewer rows or people than the steward asks for: the counts of an evaluation leave with
/// updates of other data, so its own terms are asked before a row is read.
pub const MINIMUM: &str = "engine.minimum";

/// How far the clock may go back (leap smearing, small corrections by NTP).
const CLOCK_SLACK_MS: u64 = 2_000;
const MS_A_DAY: u64 = 86_400_000;

/// What a run asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The vault.
    pub vault: Uuid,
    /// The dataset's object in it.
    pub object: Uuid,
    /// What to do.
    pub action: Action,
    /// What for.
    pub purpose: String,
    /// Columns to read, in this order. None, with [`Action::Export`], asks for the whole object.
    pub columns: Vec<String>,
    /// The run.
    pub run: String,
    /// The round of the run.
    pub round: u64,
    /// Hash of the code that asks.
    pub app_hash: String,
    /// How long the permit is to last, at most [`MAX_VALID_FOR`]. It ends earlier when the retention time of a row does.
    pub valid_for: Duration,
    /// The day of the decision, in days since 1970-01-01, for tests of this crate; `None` is today (UTC).
    pub today: Option<u32>,
    /// The node that asks.
    pub node: String,
}

/// A permit and the reasons why it does not cover the other rows.
#[derive(Debug)]
pub struct Authorized {
    /// The permit.
    pub permit: Permit,
    /// Policy id to rows it denied. A row that several policies deny counts for each.
    pub denied: BTreeMap<String, u64>,
}

/// A decision without effect: no permit, no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether [`Engine::authorize`] would give a permit.
    pub allowed: bool,
    /// Ids of the deciding policies.
    pub policies: Vec<String>,
    /// What to change; empty when allowed.
    pub advice: String,
    /// Policies that could not be evaluated.
    pub errors: Vec<String>,
    /// Rows the permit would open.
    pub rows: u64,
    /// Distinct subjects among them.
    pub subjects: u64,
    /// Policy id to rows it denied.
    pub denied: BTreeMap<String, u64>,
    /// State of the consent ledger.
    pub ledger_epoch: u64,
}

/// Decides by one bundle. Shared between threads.
#[derive(Debug)]
pub struct Engine {
    bundle: Bundle,
    /// The latest time seen, in ms since 1970.
    pub(crate) latest: AtomicU64,
}

/// Everything a decision found out.
struct Outcome {
    allowed: bool,
    policies: BTreeSet<String>,
    errors: Vec<String>,
    epoch: u64,
    watch: (PathBuf, u64),
    rows: Option<Decided>,
}

impl Engine {
    /// An engine for the bundle; refuses a bundle whose schema has no words for the engine's questions.
    pub fn new(bundle: Bundle) -> Result<Self, PolicyError> {
        probe(&bundle)?;
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

    fn decide(
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

    fn advice(&self, policies: &BTreeSet<String>) -> String {
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

    /// The audit record of a decision, or of a fault that prevented it. No personal data: counts and hashes.
    fn record(
        &self,
        request: &Request,
        outcome: Option<&Outcome>,
        permit: Option<Uuid>,
        errors: &[String],
    ) -> Value {
        let rows = outcome.and_then(|o| o.rows.as_ref());
        let today = request.today.unwrap_or_else(|| day(now_ms()));
        let mut body = json!({
            "event": Event::Authorize.name(),
            "decision": if permit.is_some() { "allow" } else { "deny" },
            "action": request.action.name(),
            "purpose": request.purpose,
            "run": request.run,
            "round": request.round,
            "node": request.node,
            "vault": request.vault.to_string(),
            "object": request.object.to_string(),
            "columns": request.columns,
            "app_hash": request.app_hash,
            "day": today,
            "bundle": hex(&self.bundle.hash()),
            "schema": hex(&self.bundle.schema_hash()),
            "policies": outcome.map(|o| &o.policies),
            "errors": errors,
            "ledger_epoch": outcome.map(|o| o.epoch),
            "rows_allowed": rows.filter(|_| permit.is_some()).map_or(0, |d| d.allowed.len()),
            "rows_candidates": rows.map(|d| d.candidates),
            "rows_denied": rows.map(|d| &d.denied),
        });
        if let (Some(permit), Some(rows)) = (permit, rows) {
            body["permit"] = permit.to_string().into();
            body["row_set"] = hex(&rows.allowed.hash()).into();
            body["subjects"] = rows.subjects.into();
            body["rows_per_subject_max"] = rows.subject_rows_max.into();
        }
        body
    }
}

/// Asks each question once, with made-up facts, only to see that the schema knows its words.
fn probe(bundle: &Bundle) -> Result<(), PolicyError> {
    let facts = DatasetFacts {
        purposes: BTreeSet::new(),
        columns: Vec::new(),
        approved_columns: BTreeSet::new(),
        min_rows: 0,
        min_subjects: 0,
        require_dp: true,
        require_secure_aggregation: true,
        budget_micro_epsilon: 0,
        controller: String::new(),
        ..DatasetFacts::default()
    };
    let asker = Asker::new(bundle, "probe", "", "", "probe", &facts)?;
    let context = use_context("", &[], 0, 0)?;
    for action in [
        Action::Read,
        Action::Train,
        Action::Evaluate,
        Action::Export,
    ] {
        asker.dataset(action.name(), &context)?;
        for delete_after in [None, Some(0)] {
            let class = Class {
                basis: "consent".into(),
                delete_after,
                special: false,
            };
            asker.rows(action.name(), &context, &class, Flags::default())?;
        }
    }
    for action in ["release_update", "release_counts"] {
        asker.update(
            action,
            "probe",
            &crate::gate::Measured::default().context()?,
        )?;
    }
    Ok(())
}

fn check(
    request: &Request,
    rows: &RowIndex,
    candidates: Option<&RowSet>,
) -> Result<(), PolicyError> {
    for (name, text) in [
        ("purpose", &request.purpose),
        ("run", &request.run),
        ("node", &request.node),
        ("app_hash", &request.app_hash),
    ] {
        if text.len() > 256 || text.chars().any(char::is_control) {
            return Err(PolicyError::bad(format!(
                "{name} must have at most 256 bytes and no control characters"
            )));
        }
    }
    if request.purpose.is_empty() {
        return Err(PolicyError::bad(
            "a purpose is needed: say what the data is for",
        ));
    }
    if request.valid_for.is_zero() || request.valid_for > MAX_VALID_FOR {
        return Err(PolicyError::bad(
            "valid_for must be more than nothing and at most 24 h",
        ));
    }
    if request.columns.is_empty() && !whole(request) {
        return Err(PolicyError::bad(
            "name at least one column; only export may ask for the whole object",
        ));
    }
    let mut seen = BTreeSet::new();
    for column in &request.columns {
        if !seen.insert(column) {
            return Err(PolicyError::bad(format!(
                "column {column:?} is asked for twice"
            )));
        }
    }
    // The names go into the audit record, which holds 1 MiB.
    if request.columns.iter().map(|c| c.len() + 8).sum::<usize>() > 256 * 1024 {
        return Err(PolicyError::bad(
            "the column names take more than 256 KiB: ask for fewer columns",
        ));
    }
    if whole(request) && candidates.is_some() {
        return Err(PolicyError::bad(
            "export of the whole object takes no candidate rows",
        ));
    }
    rows.check()?;
    if let Some(last) = candidates.and_then(|set| set.iter().next_back())
        && last >= rows.len()
    {
        return Err(PolicyError::bad(format!(
            "candidate row {last} is outside the dataset"
        )));
    }
    Ok(())
}

/// Whether the whole object is asked for, byte for byte.
fn whole(request: &Request) -> bool {
    request.action == Action::Export && request.columns.is_empty()
}

/// Until the permit's time is up, or the last day of use of one of its rows is over.
fn lifetime(request: &Request, last_day: Option<u32>, now: u64) -> Duration {
    let today = request.today.unwrap_or_else(|| day(now));
    let Some(last_day) = last_day else {
        return request.valid_for;
    };
    let days = u64::from(last_day.saturating_sub(today));
    let left = Duration::from_millis(days * MS_A_DAY + (MS_A_DAY - now % MS_A_DAY));
    request.valid_for.min(left)
}

fn what(request: &Request) -> String {
    format!(
        "{} object {} for purpose {:?}",
        request.action.name(),
        request.object,
        request.purpose
    )
}

fn day(ms: u64) -> u32 {
    u32::try_from(ms / MS_A_DAY).unwrap_or(u32::MAX)
}

fn now_ms() -> u64 {
    // Before 1970 counts as 1970: the clock check or a retention date then denies nothing wrongly allowed later.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
