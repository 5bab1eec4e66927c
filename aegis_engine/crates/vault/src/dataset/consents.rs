//! Changes of consent: one door, under the vault's lock, for people and purposes that there are, with the ledger's new head
//! committed in the keystore.

use aegis_audit::Event;
use aegis_policy::{Change, ConsentError, ConsentLedger, PolicyError, Subject, words};
use serde_json::{Value, json};

use crate::error::Result;
use crate::format::keystore::{Body, NamedHead};
use crate::kdf::hex;
use crate::vault::Vault;
use crate::vault::consent::HEAD;
use crate::vault::exclusive::Exclusive;

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
}

/// Consent to one purpose that came with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The purpose.
    pub purpose: String,
    /// People who have it now and did not before.
    pub granted: u64,
    /// People who withdrew it and did not consent anew: they do not have it.
    pub withheld: u64,
}

fn fault(error: ConsentError) -> crate::VaultError {
    PolicyError::from(error).into()
}

impl Vault {
    /// Consent of the data subjects, which must contain what the keystore committed last.
    pub fn consent(&self) -> Result<&ConsentLedger> {
        let state = self.inner.current()?;
        self.expect(&state.body);
        drop(state);
        let ledger = &self.inner.consent;
        ledger.refresh().map_err(fault)?;
        Ok(ledger)
    }

    fn expect(&self, body: &Body) {
        if let Some(head) = body.heads.get(HEAD) {
            self.inner.consent.expect(aegis_audit::Head {
                seq: head.count,
                hash: head.mac,
            });
        }
    }

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
        let purpose = purpose.map(words::purpose).transpose().map_err(fault)?;
        let purpose = purpose.as_deref();
        let rows = self.rows_of_people()?;
        let concerned = |set: &&std::sync::Arc<crate::vault::caches::Rows>| {
            purpose.is_none_or(|purpose| set.purposes.contains(purpose))
        };
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
        let count = |who: &Subject, set: &crate::vault::caches::Rows| {
            let (all, by_consent) = set.of(who);
            if consents { by_consent } else { all }
        };
        let of = |set: &crate::vault::caches::Rows| {
            subjects.iter().map(|who| count(who, set)).sum::<u64>()
        };
        let sets: Vec<u64> = rows.iter().filter(concerned).map(|set| of(set)).collect();
        let touched = |who: &&Subject| rows.iter().filter(concerned).any(|set| count(who, set) > 0);
        let mut effect = Effect {
            epoch: 0,
            people: subjects.iter().filter(touched).count() as u64,
            rows: sets.iter().sum(),
            datasets: sets.iter().filter(|rows| **rows > 0).count() as u64,
        };
        let mut exclusive = self.inner.exclusive()?;
        self.consent()?;
        let changed = self.inner.consent.change(change, &subjects, purpose);
        effect.epoch = changed.map_err(fault)?;
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

    /// Consent that comes with data, in the keystore write of the data.
    pub(crate) fn grant_with_data(
        &self,
        exclusive: &mut Exclusive<'_>,
        people: &[Subject],
        purposes: &[String],
    ) -> Result<Vec<Granted>> {
        if purposes.is_empty() {
            return Ok(Vec::new());
        }
        let mut people = people.to_vec();
        people.sort_unstable();
        people.dedup();
        let ledger = self.consent()?;
        let mut all = Vec::with_capacity(purposes.len());
        for purpose in purposes {
            let (granted, withheld) = ledger.grant_with_data(&people, purpose).map_err(fault)?;
            all.push(Granted {
                purpose: purpose.clone(),
                granted,
                withheld,
            });
        }
        let head = self.note_consent(exclusive);
        let facts = json!({
            "what": "grant with data",
            "purposes": purposes,
            "granted": all.iter().map(|one| one.granted).sum::<u64>(),
            "withheld": all.iter().map(|one| one.withheld).sum::<u64>(),
            "records": head.count,
            "head": hex(&head.mac),
        });
        self.inner.log.record(Event::Consent, facts)?;
        Ok(all)
    }

    /// The ledger as it is now is what must be there from now on. In the audit log, too, which can be anchored elsewhere.
    pub(crate) fn commit_consent(
        &self,
        exclusive: &mut Exclusive<'_>,
        mut facts: Value,
    ) -> Result<()> {
        let head = self.note_consent(exclusive);
        facts["records"] = head.count.into();
        facts["head"] = hex(&head.mac).into();
        self.inner.log.record(Event::Consent, facts)?;
        exclusive.commit()
    }

    /// As [`commit_consent`](Self::commit_consent), with the caller's commit.
    pub(crate) fn note_consent(&self, exclusive: &mut Exclusive<'_>) -> NamedHead {
        let head = self.inner.consent.head();
        let head = NamedHead {
            count: head.seq,
            mac: head.hash,
        };
        exclusive.delta.heads.insert(HEAD.to_owned(), head);
        head
    }

    /// Brings the ledger of a vault from before records had proofs under the vault's word, once: every record that is
    /// there then counts. That is as much as could be known then: whoever wrote files before wrote consent, too.
    pub(crate) fn settle_consent(&self) -> Result<()> {
        let known = self.inner.current()?.body.heads.contains_key(HEAD);
        if known {
            self.consent()?;
            return Ok(());
        }
        let mut exclusive = self.inner.exclusive()?;
        if exclusive.state().body.heads.contains_key(HEAD) {
            return exclusive.done();
        }
        let ledger = &self.inner.consent;
        let records = ledger.refresh().map_err(fault)?;
        if records == 0 {
            // Nothing to vouch for: an opening changes nothing.
            return exclusive.done();
        }
        if !ledger.adopted() {
            self.noted_head_lies_in()?;
            ledger.adopt().map_err(fault)?;
        }
        self.commit_consent(&mut exclusive, json!({"what": "adopt", "adopted": records}))?;
        exclusive.done()
    }

    /// The newest head of the ledger in the audit log must lie in its chain: all that earlier versions kept.
    fn noted_head_lies_in(&self) -> Result<()> {
        let mut newest = None;
        for record in aegis_audit::read(&self.inner.layout.audit())? {
            let record = record?;
            if record.body["event"] == Event::Consent.name() {
                newest = Some(record.body);
            }
        }
        let head = newest.and_then(|body| {
            format!("{}:{}", body["records"], body["head"].as_str()?)
                .parse::<aegis_audit::Head>()
                .ok()
        });
        if let Some(head) = head {
            self.inner.consent.expect(head);
            self.inner.consent.refresh().map_err(fault)?;
        }
        Ok(())
    }
}
