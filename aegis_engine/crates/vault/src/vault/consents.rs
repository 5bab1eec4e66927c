//! The consent ledger under the vault's word: its head is committed in the keystore, so that an older ledger is noticed.

use aegis_audit::Event;
use aegis_policy::{ConsentError, ConsentLedger, PolicyError, Prove, Subject, distinct};
use serde_json::{Value, json};

use crate::error::Result;
use crate::format::keystore::{Body, NamedHead};
use crate::kdf;
use crate::secret::Secret;
use crate::vault::Exclusive;
use crate::vault::proof;
use crate::vault::{Vault, hex};

/// The name of the ledger's head in the keystore.
pub(crate) const HEAD: &str = "consent";
const DOMAIN: &str = "aegis/v1/consent";

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

/// The key of the ledger's records.
pub(crate) fn prove(node: &Secret<32>) -> Result<Prove> {
    let key = proof::key(DOMAIN, node)?;
    Ok(Box::new(move |data| kdf::mac(&key, &[data])))
}

pub(crate) fn fault(error: ConsentError) -> crate::VaultError {
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

    /// Consent that comes with data, in the keystore write of the data.
    pub(crate) fn grant_with_data(
        &self,
        exclusive: &mut Exclusive<'_>,
        people: &[Subject],
        purposes: &[String],
    ) -> Result<Vec<Granted>> {
        let people = distinct(people.iter());
        let each = purposes.iter().map(|purpose| (purpose.as_str(), &*people));
        self.grant_each(exclusive, each)
    }

    /// As [`grant_with_data`](Self::grant_with_data), with people of its own for each purpose.
    pub(crate) fn grant_each<'a>(
        &self,
        exclusive: &mut Exclusive<'_>,
        each: impl Iterator<Item = (&'a str, &'a [Subject])>,
    ) -> Result<Vec<Granted>> {
        let mut all = Vec::new();
        for (purpose, people) in each {
            let ledger = self.consent()?;
            let (granted, withheld) = ledger.grant_with_data(people, purpose).map_err(fault)?;
            all.push(Granted {
                purpose: purpose.to_owned(),
                granted,
                withheld,
            });
        }
        if all.is_empty() {
            return Ok(all);
        }
        let head = self.note_consent(exclusive);
        let facts = json!({
            "what": "grant with data",
            "purposes": all.iter().map(|one| &one.purpose).collect::<Vec<_>>(),
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
        for record in aegis_audit::read(&self.inner.paths.audit())? {
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
