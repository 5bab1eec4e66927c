//! The decision to let an update out: its premises, the gates, one answer for each part, one durable record.

use std::collections::BTreeSet;

use aegis_audit::{Event, Log};
use serde_json::json;
use uuid::Uuid;

use super::asked::{Asked, Protection, evaluated, protection, trained};
use super::counts::CountsNoise;
use super::gates::run_gates;
use super::record::release_record;
use super::session::DpSession;
use super::{GateLimits, Part, Proposal, Release};
use crate::cedar::{Asker, Measured, Verdict};
use crate::digest::hex;
use crate::engine::Engine;
use crate::error::{GateResult, PolicyError};
use crate::permit::{Action, Authority, Permit};

impl Engine {
    /// Runs all gates, asks the policies for each part, writes the answer down, and releases the update.
    ///
    /// The parts are a permit to train, a permit to evaluate, or one of each: a release names every permit it used, and
    /// each data set is asked under its own terms (`release_update`, `release_counts`). Permits must be of this engine's
    /// bundle, in force, and must not have released anything yet; facts must be those of the decisions. Values need a permit
    /// to train, metrics other than zero a permit to evaluate.
    ///
    /// Whether noise was added is read from `session` and made by `counts`, never taken from the caller: without a session
    /// of this permit that noised every coordinate of every drawn step once, an update counts as unprotected.
    ///
    /// # Errors
    /// [`PolicyError::GateFailed`] with all gates when one failed; [`PolicyError::Denied`] when only the policies
    /// object. Either way the record is in the log and the update goes nowhere.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a session ends with its release"
    )]
    pub fn gate(
        &self,
        parts: &[Part<'_>],
        mut proposal: Proposal,
        session: Option<DpSession>,
        counts: Option<CountsNoise>,
        limits: &GateLimits,
        log: &Log,
    ) -> Result<Release, PolicyError> {
        let Some(first) = parts.first() else {
            return Err(PolicyError::bad(
                "a release names the permits it used: there is none",
            ));
        };
        let protections: Vec<Protection> = parts
            .iter()
            .map(|part| protection(part, &proposal, session.as_ref(), counts.as_ref()))
            .collect();
        let asked = Asked {
            parts,
            protections: &protections,
            session: session.as_ref(),
            counts: counts.as_ref(),
            limits,
        };
        let ran = self.premises(&asked, &proposal).and_then(|()| {
            let gates = run_gates(&asked, &proposal);
            let verdicts = (0..parts.len())
                .map(|at| self.ask_release(&asked, at, &proposal, &gates))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((gates, verdicts))
        });
        let (gates, verdicts) = match ran {
            Ok(ran) => ran,
            Err(fault) => {
                // As in `authorize`: the fault is what the caller must see, even when its record fails.
                let _ = log.append(&release_record(
                    self,
                    &asked,
                    &proposal,
                    &[],
                    &[],
                    None,
                    &[fault.to_string()],
                ));
                return Err(fault);
            }
        };
        let errors: Vec<String> = verdicts.iter().flat_map(|v| v.errors.clone()).collect();
        let passed = gates.iter().all(|g| g.passed) && verdicts.iter().all(|v| v.allow);
        if passed {
            // Taken before the record: of two threads with one permit, one is told no.
            for part in parts {
                if !part.permit.take_release() {
                    return Err(already_released(part.permit));
                }
            }
            if let Some(part) = evaluated(parts)
                && let Some(counts) = &counts
            {
                counts.apply(&mut proposal.metrics, part.permit.row_count())?;
            }
        }
        let id = passed.then(Uuid::new_v4);
        let body = release_record(self, &asked, &proposal, &verdicts, &gates, id, &errors);
        let record = log.append(&body)?;
        if let Some(id) = id {
            return Ok(Release {
                id,
                permit: first.permit.id(),
                rows: first.permit.row_count(),
                audit_seq: record.seq,
                gates,
                proposal,
            });
        }
        let failed: Vec<GateResult> = gates.iter().filter(|g| !g.passed).cloned().collect();
        if failed.is_empty() {
            let denied = parts.iter().zip(verdicts).find(|(_, v)| !v.allow);
            let (part, policies) =
                denied.map_or((first, BTreeSet::new()), |(p, v)| (p, v.policies));
            let what = format!("release of what came of object {}", part.permit.object());
            return Err(self.denied(policies, what));
        }
        Err(PolicyError::GateFailed { failed, gates })
    }

    /// A release that tells nothing: no value, zero for each of `metrics`, no row used and so no permit named. A node without
    /// held-out rows takes part in an evaluation with it. It is on record like any other.
    ///
    /// # Errors
    /// The record did not reach the disk.
    pub fn release_nothing(
        &self,
        metrics: impl IntoIterator<Item = String>,
        secure_aggregation: bool,
        log: &Log,
    ) -> Result<Release, PolicyError> {
        let proposal = Proposal {
            update: Vec::new(),
            tensors: Vec::new(),
            metrics: metrics.into_iter().map(|name| (name, 0)).collect(),
            secure_aggregation,
            weight: 1,
        };
        let id = Uuid::new_v4();
        let record = log.append(&json!({
            "event": Event::Release.name(),
            "decision": "allow",
            "release": id.to_string(),
            "bundle": hex(&self.bundle().hash()),
            "parts": [],
            "rows": 0,
            "subjects": 0,
            "secure_aggregation": secure_aggregation,
        }))?;
        Ok(Release {
            id,
            permit: Uuid::nil(),
            rows: 0,
            audit_seq: record.seq,
            gates: Vec::new(),
            proposal,
        })
    }

    fn premises(&self, asked: &Asked<'_>, proposal: &Proposal) -> Result<(), PolicyError> {
        let (parts, limits) = (asked.parts, asked.limits);
        let actions: Vec<Action> = parts.iter().map(|p| p.permit.action()).collect();
        if !matches!(
            actions[..],
            [Action::Train | Action::Evaluate] | [Action::Train, Action::Evaluate]
        ) {
            return Err(PolicyError::bad(
                "a permit to train releases an update, and one to evaluate releases counts: name one of each at most, \
                 the one to train first",
            ));
        }
        for part in parts {
            if part.permit.authority() != Authority::Bundle(self.bundle().hash()) {
                return Err(PolicyError::bad(
                    "this permit was not issued under this engine's bundle; updates are released only under the policies \
                     that opened the data: govern the vault and authorize",
                ));
            }
            if part.permit.facts() != part.facts.hash() {
                return Err(PolicyError::bad(
                    "the dataset's facts are not those of the permit's decision: authorize again",
                ));
            }
            if part
                .reservation
                .as_ref()
                .is_some_and(|r| r.is_empty() || r.len() > 256)
            {
                return Err(PolicyError::bad("a reservation id has 1 to 256 bytes"));
            }
        }
        if !(limits.max_norm.is_finite() && limits.max_norm > 0.0) {
            return Err(PolicyError::bad("max_norm must be a positive number"));
        }
        if let Some(session) = asked.session
            && trained(parts).is_none_or(|part| part.permit.id() != session.permit())
        {
            return Err(PolicyError::bad(
                "the session's noise was drawn for another permit: one session, one permit, one release",
            ));
        }
        if let Some(counts) = asked.counts {
            counts.check()?;
            if evaluated(parts).is_none() {
                return Err(PolicyError::bad(
                    "there is noise for counts, but no permit to evaluate",
                ));
            }
            if !counts.covers(&proposal.metrics) {
                return Err(PolicyError::bad(
                    "a metric that tells something is in no declared block, so its noise is not known",
                ));
            }
        }
        for part in parts {
            part.permit.in_force()?;
            if part.permit.released() {
                return Err(already_released(part.permit));
            }
        }
        Ok(())
    }

    fn ask_release(
        &self,
        asked: &Asked<'_>,
        at: usize,
        proposal: &Proposal,
        gates: &[GateResult],
    ) -> Result<Verdict, PolicyError> {
        let (part, protection) = (&asked.parts[at], &asked.protections[at]);
        let permit = part.permit;
        let measured = Measured {
            dp: protection.dp.to_owned(),
            epsilon_micro_total: part.epsilon_micro_total,
            failed: gates
                .iter()
                .filter(|g| !g.passed)
                .map(|g| g.name.to_owned())
                .collect(),
            operator_min_rows: asked.min_rows(part),
            purpose: permit.purpose().to_owned(),
            reserved: protection.reservation.is_some(),
            round: permit.round(),
            rows: permit.row_count(),
            secure_aggregation: proposal.secure_aggregation,
            subjects: permit.subjects(),
            weight: proposal.weight,
        };
        let object = permit.object().to_string();
        let policies = Asker::new(
            self.bundle(),
            permit.run(),
            permit.node(),
            permit.app_hash(),
            &object,
            part.facts,
        )?;
        let action = match permit.action() {
            Action::Evaluate => "release_counts",
            _ => "release_update",
        };
        policies.update(action, &permit.id().to_string(), &measured.context()?)
    }
}

fn already_released(permit: &Permit) -> PolicyError {
    PolicyError::bad(format!(
        "permit {} has released an update already: authorize the next round",
        permit.id()
    ))
}
