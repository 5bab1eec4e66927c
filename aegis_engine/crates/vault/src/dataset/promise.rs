//! The budget that was promised to the people of a lineage: the least of all their datasets, until an amendment with a reason
//! raises it. A dataset that is dropped and stored anew, or stored under another name, promises no more than before.
//!
//! It is kept in the register of lineages, in records of the dataset's lineages without people.

use aegis_policy::DatasetFacts;

use crate::dataset::register::{Claim, Promise, Register};
use crate::error::{Result, VaultError};
use crate::vault::Exclusive;
use crate::vault::Vault;

impl Register {
    /// The least that was promised to any of these lineages; none where nobody said.
    pub fn promised(&self, lineages: &[String]) -> Option<Promise> {
        let known = lineages.iter().filter_map(|one| self.promises.get(one));
        known.copied().reduce(Promise::and)
    }

    /// Puts on record what these facts promise to their lineages. `raised`: in place of what was promised before, by the terms
    /// named; else no more than that. The caller commits.
    pub fn promise(
        &mut self,
        vault: &Vault,
        exclusive: &mut Exclusive<'_>,
        facts: &DatasetFacts,
        raised: &[&str],
    ) -> Result<()> {
        let asked = Promise::of(facts);
        for lineage in &facts.lineages {
            let before = self.promises.get(lineage).copied();
            let least = before.map_or(asked, |before| before.and(asked));
            let now = Promise {
                budget_micro_epsilon: if raised.contains(&BUDGET) {
                    asked.budget_micro_epsilon
                } else {
                    least.budget_micro_epsilon
                },
                delta_femto: if raised.contains(&DELTA) {
                    asked.delta_femto
                } else {
                    least.delta_femto
                },
            };
            if before != Some(now) {
                let claim = Claim {
                    role: facts.role,
                    lineages: vec![lineage.clone()],
                    names: Vec::new(),
                    promise: Some(now),
                };
                self.append(vault, &claim, &[])?;
            }
        }
        self.note(exclusive);
        Ok(())
    }
}

/// The terms' names, as an amendment tells them.
pub(crate) const BUDGET: &str = "budget_epsilon";
pub(crate) const DELTA: &str = "delta";

impl Vault {
    /// Which terms of these facts would promise less protection to people than they were promised.
    pub(crate) fn beyond_promise(&self, facts: &DatasetFacts) -> Result<Vec<&'static str>> {
        let promised = self.with_lineages(|register| Ok(register.promised(&facts.lineages)))?;
        let mut beyond = Vec::new();
        if let Some(promised) = promised {
            if facts.budget_micro_epsilon > promised.budget_micro_epsilon {
                beyond.push(BUDGET);
            }
            if facts.delta_femto > promised.delta_femto {
                beyond.push(DELTA);
            }
        }
        Ok(beyond)
    }

    /// Refuses a new dataset that goes beyond it.
    pub(crate) fn keeps_promise(&self, facts: &DatasetFacts) -> Result<()> {
        let beyond = self.beyond_promise(facts)?;
        if beyond.is_empty() {
            return Ok(());
        }
        let promised = self.with_lineages(|register| Ok(register.promised(&facts.lineages)))?;
        #[allow(clippy::cast_precision_loss)] // for people to read
        let told = promised.map_or_else(String::new, |p| {
            format!(
                " (budget_epsilon {}, delta {:e})",
                p.budget_micro_epsilon as f64 / 1e6,
                p.delta_femto as f64 / 1e15
            )
        });
        Err(VaultError::BadRequest {
            what: format!(
                "{} would be wider than what people of these rows were promised{told}; store the data set with that, then amend \
                 its terms with a reason",
                beyond.join(", ")
            ),
        })
    }

    /// Puts on record what these facts promise, in the caller's keystore write.
    pub(crate) fn note_promise(
        &self,
        exclusive: &mut Exclusive<'_>,
        facts: &DatasetFacts,
        raised: &[&str],
    ) -> Result<()> {
        self.with_lineages(|register| register.promise(self, exclusive, facts, raised))
    }
}
