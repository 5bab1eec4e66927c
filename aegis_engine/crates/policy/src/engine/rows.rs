//! Deciding a million rows by asking once for each kind of row, and proving on random rows that it is the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use cedar_policy::Context;
use uuid::Uuid;

use crate::cedar::{Asker, Verdict};
use crate::consent::{Flags, STATES, View};
use crate::error::PolicyError;
use crate::rows::{RowIndex, RowSet, Subject, count_distinct};

/// Rows that are decided again, one by one.
const RECHECKED: usize = 256;

/// One decision over rows: everything but the rows is fixed.
pub(crate) struct Question<'q> {
    pub asker: &'q Asker<'q>,
    pub action: &'q str,
    pub context: &'q Context,
    pub purpose: &'q str,
    pub object: Uuid,
    pub index: &'q RowIndex,
    pub candidates: Option<&'q RowSet>,
    pub consent: &'q View<'q>,
}

/// Which rows are allowed, and why the others are not.
#[derive(Debug)]
pub(crate) struct Decided {
    pub allowed: RowSet,
    pub subjects: u64,
    /// Most allowed rows of one subject.
    pub subject_rows_max: u64,
    pub candidates: u64,
    /// Policy id to rows it denied. A row that several policies deny counts for each of them.
    pub denied: BTreeMap<String, u64>,
    pub errors: BTreeSet<String>,
    /// Policies that permitted rows.
    pub permitted_by: BTreeSet<String>,
    /// The earliest last day of use among the allowed rows.
    pub last_day: Option<u32>,
}

impl Question<'_> {
    /// Decides every candidate row.
    pub(crate) fn decide(&self) -> Result<Decided, PolicyError> {
        let decided = match self.candidates {
            None => self.classes(0..self.index.len())?,
            Some(set) => self.classes(set.iter())?,
        };
        self.recheck(&decided.allowed, decided.candidates)?;
        Ok(decided)
    }

    fn classes(
        &self,
        candidates: impl ExactSizeIterator<Item = u32>,
    ) -> Result<Decided, PolicyError> {
        let index = self.index;
        let bits_of = self.consent.bits_for(self.purpose);
        // One place for each (class, flags); asked when the first such row comes.
        let mut verdicts: Vec<Option<(Verdict, u64)>> = vec![None; index.classes.len() * STATES];
        let mut out = Vec::with_capacity(candidates.len());
        let count = candidates.len() as u64;
        for row in candidates {
            let at = row as usize;
            let (class, bits) = (index.class_of[at], bits_of(&index.subjects[at]));
            let slot = &mut verdicts[usize::from(class) * STATES + usize::from(bits)];
            if slot.is_none() {
                let class = &index.classes[usize::from(class)];
                *slot = Some((
                    self.asker
                        .rows(self.action, self.context, class, Flags::from_bits(bits))?,
                    0,
                ));
            }
            if let Some((verdict, rows)) = slot {
                *rows += 1;
                if verdict.allow {
                    out.push(row);
                }
            }
        }
        let mut denied = BTreeMap::new();
        let mut errors = BTreeSet::new();
        let mut permitted_by = BTreeSet::new();
        let mut last_day = None;
        for (place, slot) in verdicts.iter().enumerate() {
            let Some((verdict, rows)) = slot else {
                continue;
            };
            errors.extend(verdict.errors.iter().cloned());
            if verdict.allow {
                permitted_by.extend(verdict.policies.iter().cloned());
                let day = index.classes[place / STATES].delete_after;
                last_day = [last_day, day].into_iter().flatten().min();
            } else {
                for id in &verdict.policies {
                    *denied.entry(id.clone()).or_insert(0) += rows;
                }
            }
        }
        let subjects = count_distinct(out.iter().map(|row| &index.subjects[*row as usize]));
        let mut per_subject: HashMap<&Subject, u64> = HashMap::new();
        for row in &out {
            *per_subject
                .entry(&index.subjects[*row as usize])
                .or_default() += 1;
        }
        let subject_rows_max = per_subject.into_values().max().unwrap_or(0);
        let allowed = out.into_iter().collect();
        Ok(Decided {
            allowed,
            subjects,
            subject_rows_max,
            candidates: count,
            denied,
            errors,
            permitted_by,
            last_day,
        })
    }

    /// Decides random rows in full, from their subject's entry in the ledger to Cedar, and compares.
    pub(crate) fn recheck(&self, allowed: &RowSet, candidates: u64) -> Result<(), PolicyError> {
        if candidates == 0 {
            return Ok(());
        }
        let mut random = [0_u8; RECHECKED * 8];
        SystemRandom::new().fill(&mut random).map_err(|_| {
            PolicyError::bad("the system gives no random numbers; check /dev/urandom")
        })?;
        let every = candidates <= RECHECKED as u64;
        for (k, bytes) in (0_u64..).zip(random.as_chunks::<8>().0) {
            // The modulo prefers low rows by less than 2^-32.
            let pick = if every {
                k
            } else {
                u64::from_le_bytes(*bytes) % candidates
            };
            if pick >= candidates {
                break;
            }
            let row = match self.candidates {
                Some(set) => set.nth(pick),
                None => u32::try_from(pick).ok(),
            };
            let Some(row) = row else { break };
            if self.single(row)?.allow != allowed.contains(row) {
                return Err(PolicyError::Divergence {
                    object: self.object,
                    row,
                });
            }
        }
        Ok(())
    }

    /// One row on its own.
    pub(crate) fn single(&self, row: u32) -> Result<Verdict, PolicyError> {
        let at = row as usize;
        let class = &self.index.classes[usize::from(self.index.class_of[at])];
        let bits = self.consent.bits(&self.index.subjects[at], self.purpose);
        self.asker
            .rows(self.action, self.context, class, Flags::from_bits(bits))
    }
}
