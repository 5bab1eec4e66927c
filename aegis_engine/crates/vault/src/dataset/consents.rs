//! Changes of consent: one door, under the vault's lock, for people and purposes that there are.

use std::sync::Arc;

use aegis_policy::{Change, ConsentError, Subject, words};
use serde_json::json;

use crate::dataset::people::Rows;
use crate::error::Result;
use crate::vault::Vault;
use crate::vault::consents::fault;

/// What a change of consent reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// The ledger's new epoch.
    pub epoch: u64,
    /// People who have rows.
    pub people: u64,
    /// Rows of live datasets that it governs: for consent those that rest on consent, for the rest all of theirs.
    pub rows: u64,
    /// Datasets with such rows.
    pub datasets: u64,
    /// By [`Vault::grant_unless_withdrawn`]: people who have consent now and had none.
    pub granted: u64,
    /// By it: people from whom it was withheld, because they withdrew it or are erased.
    pub withheld: u64,
}

impl Vault {
    /// Records what people allow and forbid. All of them, or none.
    ///
    /// # Errors
    /// AEG-P014 for people without a row in any live dataset and purposes of none, unless `unknown_ok`; AEG-P013 for what
    /// is no name.
    pub fn change_consent(
        &self,
        change: Change,
        people: &[String],
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<Effect> {
        self.apply(change, people, purpose, unknown_ok, false)
    }

    /// Consent as a list that may be old gives it: to those who never withdrew it. A withdrawal stands until an explicit grant.
    ///
    /// # Errors
    /// As [`change_consent`](Self::change_consent).
    pub fn grant_unless_withdrawn(
        &self,
        people: &[String],
        purpose: &str,
        unknown_ok: bool,
    ) -> Result<Effect> {
        self.apply(Change::Grant, people, Some(purpose), unknown_ok, true)
    }

    fn apply(
        &self,
        change: Change,
        people: &[String],
        purpose: Option<&str>,
        unknown_ok: bool,
        unless_withdrawn: bool,
    ) -> Result<Effect> {
        let purpose = purpose.map(words::purpose).transpose().map_err(fault)?;
        let purpose = purpose.as_deref();
        let rows = self.rows_of_people()?;
        let concerned =
            |set: &&Arc<Rows>| purpose.is_none_or(|purpose| set.purposes.contains(purpose));
        if let Some(purpose) = purpose
            && !unknown_ok
            && !rows.iter().any(|set| set.purposes.contains(purpose))
        {
            let like = words::skeleton(purpose);
            let all = rows.iter().flat_map(|set| &set.purposes);
            let alike = all.clone().find(|known| words::skeleton(known) == like);
            let hint = alike.map_or_else(String::new, |known| format!("; there is {known:?}"));
            return Err(fault(ConsentError::UnknownPurpose {
                purpose: purpose.to_owned(),
                hint,
            }));
        }
        let mut named = Vec::with_capacity(people.len());
        let (mut unknown, mut hint) = (0, "");
        for person in people {
            let who = self.named(person, &rows)?;
            if !who.known && !unknown_ok {
                unknown += 1;
                if hint.is_empty() {
                    hint = self.look_alike(person, &rows)?;
                }
            }
            named.push(who);
        }
        if unknown > 0 {
            return Err(fault(ConsentError::UnknownSubject {
                count: unknown,
                hint,
            }));
        }
        let mut subjects: Vec<Subject> = named.iter().flat_map(|who| who.forms.clone()).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let consents = matches!(change, Change::Grant | Change::Withdraw);
        let count = |who: &Subject, set: &Rows| {
            let (all, by_consent) = set.of(who);
            if consents { by_consent } else { all }
        };
        let of = |set: &Rows| subjects.iter().map(|who| count(who, set)).sum::<u64>();
        let sets: Vec<u64> = rows.iter().filter(concerned).map(|set| of(set)).collect();
        let touched = |who: &&Subject| rows.iter().filter(concerned).any(|set| count(who, set) > 0);
        let mut effect = Effect {
            epoch: 0,
            people: subjects.iter().filter(touched).count() as u64,
            rows: sets.iter().sum(),
            datasets: sets.iter().filter(|rows| **rows > 0).count() as u64,
            granted: 0,
            withheld: 0,
        };
        let mut exclusive = self.inner.exclusive()?;
        self.consent()?;
        let ledger = &self.inner.consent;
        if unless_withdrawn {
            let granted = ledger.grant_with_data(&subjects, purpose.unwrap_or_default());
            (effect.granted, effect.withheld) = granted.map_err(fault)?;
            effect.epoch = ledger.epoch();
        } else {
            effect.epoch = ledger.change(change, &subjects, purpose).map_err(fault)?;
        }
        let facts = json!({
            "what": change.name(),
            "purpose": purpose,
            "people": people.len(),
            "rows": effect.rows,
        });
        self.commit_consent(&mut exclusive, facts)?;
        exclusive.done()?;
        Ok(effect)
    }
}
