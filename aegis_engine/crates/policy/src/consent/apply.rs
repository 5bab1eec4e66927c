//! From records to state: what each record proves, what it changes, and whether a committed head lies in them.

use aegis_audit::{AuditError, Event, Record};
use serde_json::Value;

use super::ConsentLedger;
use super::state::{CONSENT, ERASED, OBJECTED, RESTRICTED, State, WITHDREW};
use crate::digest::{hex, unhex};
use crate::error::ConsentError;
use crate::rows::Subject;

/// Hashes of records kept, to see whether a committed head is among them.
const HASHES: usize = 4096;

impl ConsentLedger {
    pub(super) fn catch_up(&self, state: &mut State) -> Result<(), ConsentError> {
        let path = self.log.path();
        let length = || {
            std::fs::metadata(path)
                .map(|m| m.len())
                .map_err(|source| ConsentError::Io {
                    path: path.to_owned(),
                    source,
                })
        };
        for _ in 0..100 {
            let before = length()?;
            if state.length == Some(before) {
                return self.check_committed(state);
            }
            state.length = None;
            let mut records = match state.cursor {
                Some(cursor) => aegis_audit::read_from(&self.dir, cursor)?,
                None => aegis_audit::read(&self.dir)?,
            };
            let adopted = state.adopted;
            state.cursor = Some(records.cursor());
            while let Some(record) = records.next() {
                let record = record?;
                self.apply(state, &record)?;
                if state.hashes.len() == HASHES {
                    state.hashes.pop_front();
                }
                state.hashes.push_back(record.hash);
                state.cursor = Some(records.cursor());
            }
            if state.adopted > adopted && state.ignored > 0 {
                // What counted for nothing counts after all: from the start.
                *state = State {
                    adopted: state.adopted,
                    committed: state.committed,
                    ..State::default()
                };
                continue;
            }
            // Only a length that stood still belongs to the records just read: a permit that watched a longer file
            // would not notice the records in between.
            if length()? == before {
                self.check_committed(state)?;
                state.length = Some(before);
                return Ok(());
            }
        }
        Err(ConsentError::Busy)
    }

    /// What the keystore committed must lie in what was read.
    fn check_committed(&self, state: &State) -> Result<(), ConsentError> {
        let Some(head) = state.committed.filter(|head| head.seq > 0) else {
            return Ok(());
        };
        let rolled_back = || ConsentError::RolledBack {
            expected: head.seq,
            left: state.epoch(),
        };
        let behind = state
            .epoch()
            .checked_sub(head.seq)
            .ok_or_else(rolled_back)?;
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let place = state.hashes.len().checked_sub(behind.saturating_add(1));
        let same = match place {
            Some(place) => state.hashes.get(place) == Some(&head.hash),
            // Long ago: the whole chain says.
            None => match aegis_audit::verify(&self.dir, None, Some(&head)) {
                Ok(_) => true,
                Err(AuditError::Rollback { .. }) => false,
                Err(other) => return Err(other.into()),
            },
        };
        if same { Ok(()) } else { Err(rolled_back()) }
    }

    fn apply(&self, state: &mut State, record: &Record) -> Result<(), ConsentError> {
        let unreadable = |reason| ConsentError::Unreadable {
            seq: record.seq,
            reason,
        };
        let text = |field: &str| record.body.get(field).and_then(Value::as_str);
        let event = text("event").ok_or_else(|| unreadable("no event"))?;
        // The log itself says that a crash left half a record, which nobody was told had been taken.
        if event == Event::RecoveryTruncated.name() {
            return Ok(());
        }
        let purpose = match record.body.get("purpose") {
            Some(Value::Null) => None,
            Some(Value::String(purpose)) => Some(purpose.as_str()),
            _ => return Err(unreadable("no purpose")),
        };
        let subjects = record.body.get("subjects").and_then(Value::as_array);
        let subjects: Vec<Subject> = subjects
            .and_then(|list| list.iter().map(|s| s.as_str().and_then(unhex)).collect())
            .ok_or_else(|| unreadable("bad subjects"))?;
        let told = text("proof").unwrap_or_default();
        let proven = |rest: &[u8]| {
            let genuine = self.proof(record.seq, event, purpose, rest);
            aws_lc_rs::constant_time::verify_slices_are_equal(genuine.as_bytes(), told.as_bytes())
                .is_ok()
        };
        if event == Event::ConsentAdopt.name() {
            let before = hex(&state.head(&self.log).hash);
            if text("head") == Some(&*before) && proven(before.as_bytes()) {
                // At least 1, so that an empty ledger that was adopted is not adopted again.
                state.adopted = state.adopted.max(record.seq).max(1);
            }
            return Ok(());
        }
        // Only what allows needs a proof.
        let allows = record.seq < state.adopted || proven(subjects.as_flattened());
        match (event, purpose) {
            ("consent.grant", Some(_)) if allows => {
                state.change(&subjects, purpose, CONSENT, WITHDREW);
            }
            ("consent.lift", Some(_)) if allows => {
                state.change(&subjects, purpose, 0, OBJECTED | RESTRICTED);
            }
            ("consent.lift", None) if allows => state.clear(&subjects, OBJECTED | RESTRICTED),
            ("consent.grant", Some(_)) | ("consent.lift", _) => state.ignored += 1,
            ("consent.withdraw", Some(_)) => state.change(&subjects, purpose, WITHDREW, CONSENT),
            ("consent.object", _) => state.change(&subjects, purpose, OBJECTED, 0),
            ("consent.restrict", _) => state.change(&subjects, purpose, RESTRICTED, 0),
            ("consent.erase", None) => {
                state.clear(&subjects, CONSENT);
                state.change(&subjects, None, ERASED, 0);
            }
            _ => return Err(unreadable("unknown event")),
        }
        Ok(())
    }

    pub(super) fn proof(
        &self,
        seq: u64,
        event: &str,
        purpose: Option<&str>,
        rest: &[u8],
    ) -> String {
        // Each part behind its length or of a fixed one: no two records have the same bytes.
        let mut covered = seq.to_le_bytes().to_vec();
        for part in [Some(event), purpose] {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            covered.extend_from_slice(&length.to_le_bytes());
            covered.extend_from_slice(part.unwrap_or_default().as_bytes());
        }
        covered.extend_from_slice(rest);
        hex(&(self.prove)(&covered))
    }
}
