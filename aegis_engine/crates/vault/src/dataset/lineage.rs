//! Lineages: whose privacy budget a dataset spends, whatever it is called and however often it is stored anew.
//!
//! A lineage is 16 random bytes, given to a set of people in a role when the vault first sees one of them in it. A later
//! dataset of that role with any one of these people goes on with it: the ledger of a lineage is the budget of its
//! people. Where a dataset joins people of several lineages, it spends all of them, and so do its newcomers ever after.
//!
//! Who is in which lineage is kept in a log of its own in `lineage/`, sealed, of pseudonyms only, which outlives the
//! datasets: a shredded dataset that comes back does not come back with a fresh budget. A record is
//! `{"event":"lineage","sealed":"<hex of a blob>"}`, the blob's associated data is the record's number, and its plaintext
//! is u32 n ‖ n bytes of JSON [`Claim`] ‖ 16 bytes a person.

use std::collections::BTreeSet;

use aegis_policy::{Role, Subject, distinct};
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::dataset::register::{Claim, HEAD, Lineages, Register};
use crate::error::{Result, VaultError};
use crate::format::keystore::Kind;
use crate::format::meta::ROWS_ATTR;
use crate::secret;
use crate::vault::{Vault, hex};

impl Vault {
    /// Under the register, up to date.
    pub(crate) fn with_lineages<T>(
        &self,
        work: impl FnOnce(&mut Register) -> Result<T>,
    ) -> Result<T> {
        self.inner.lineages.with(|held: &mut Lineages| {
            let register = match held {
                Some(register) => register,
                None => held.insert(Register::open(&self.inner)?),
            };
            register.refresh(self)?;
            work(register)
        })
    }

    /// The lineages that a dataset with these people in that role spends; what was new is on record before it is
    /// answered. `asked`: lineages that the steward names, of people this vault cannot know to be the same.
    pub(crate) fn claim_lineages(
        &self,
        role: Role,
        people: &[Subject],
        asked: &[String],
    ) -> Result<Vec<String>> {
        self.adopt_lineages()?;
        let people = distinct(people.iter());
        // Two stores at once must not both find nobody.
        let mut exclusive = self.inner.exclusive()?;
        let found = self.with_lineages(|register| {
            let mut places = register.meet(role, &people);
            for lineage in asked {
                let known = register.known.iter().position(|other| other == lineage);
                let place = known.ok_or_else(|| VaultError::BadRequest {
                    what: format!(
                        "this vault has no lineage {lineage}; leave it out, or take one of vault.lineages(dataset)"
                    ),
                })?;
                places.insert(u32::try_from(place).unwrap_or(u32::MAX));
            }
            let lineages: Vec<String> = if places.is_empty() {
                vec![hex(&secret::random::<16>()?)]
            } else {
                let name = |place: &u32| register.known[*place as usize].clone();
                places.iter().map(name).collect()
            };
            let every: Vec<u32> = places.iter().copied().collect();
            let new: Vec<Subject> = people
                .iter()
                .filter(|person| {
                    let mine = register.lineages_of(role, person);
                    // Somebody known keeps what is theirs; an explicitly named lineage comes to everybody.
                    mine.is_none_or(|mine| !asked.is_empty() && *mine != *every)
                })
                .copied()
                .collect();
            if !new.is_empty() {
                let claim = Claim {
                    role,
                    lineages: lineages.clone(),
                    names: Vec::new(),
                    promise: None,
                };
                register.append(self, &claim, &new)?;
                register.commit(&mut exclusive)?;
            }
            Ok(lineages)
        });
        exclusive.done()?;
        found
    }

    /// As [`adopt_lineages`](Self::adopt_lineages), where there may be something to take in: before somebody shreds it.
    pub(crate) fn adopt_old_lineages(&self) -> Result<()> {
        let old = {
            let body = &self.inner.current()?.body;
            !body.heads.contains_key(HEAD) && body.records().any(|record| record.rows.is_some())
        };
        if old { self.adopt_lineages() } else { Ok(()) }
    }

    /// Takes the datasets of a vault from before there were lineages into the register, once.
    pub(crate) fn adopt_lineages(&self) -> Result<()> {
        if self.with_lineages(|register| Ok(register.adopted))? {
            return Ok(());
        }
        let old: Vec<Uuid> = {
            let state = self.inner.current()?;
            let all = state.body.records();
            all.filter(|record| record.kind == Kind::Data && record.rows.is_some())
                .map(|record| record.object)
                .collect()
        };
        let mut claims = Vec::with_capacity(old.len() + 1);
        for object in old {
            let dataset = self.dataset(object)?;
            let names = BTreeSet::from([self.stat(object)?.name, self.stored_name(object)?]);
            let claim = Claim {
                role: dataset.facts.role.max(
                    names
                        .iter()
                        .map(|n| Role::of_name(n))
                        .max()
                        .unwrap_or_default(),
                ),
                lineages: dataset.lineages(self)?,
                names: names.into_iter().collect(),
                promise: None,
            };
            let people = distinct(dataset.index.subjects.iter());
            claims.push((claim, people));
        }
        // Last: until it is there, this begins again, and says the same.
        let done = Claim {
            role: Role::Train,
            lineages: Vec::new(),
            names: Vec::new(),
            promise: None,
        };
        claims.push((done, Vec::new()));
        let mut exclusive = self.inner.exclusive()?;
        let result = self.with_lineages(|register| {
            for (claim, people) in &claims {
                if !register.adopted {
                    register.append(self, claim, people)?;
                }
            }
            register.commit(&mut exclusive)
        });
        exclusive.done()?;
        result
    }

    /// All lineages whose budget a dataset spends, the oldest first.
    pub fn lineages(&self, object: Uuid) -> Result<Vec<String>> {
        self.dataset(object)?.lineages(self)
    }

    /// Names under which earlier versions kept the ledger of this lineage; empty for one made by this version.
    pub fn lineage_names(&self, lineage: &str) -> Result<Vec<String>> {
        self.adopt_lineages()?;
        self.with_lineages(|register| {
            let names = register.names.get(lineage);
            Ok(names.into_iter().flatten().cloned().collect())
        })
    }

    /// The dataset of that id or name.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when there is none of that name, or more than one.
    pub fn find_dataset(&self, name_or_id: &str) -> Result<Uuid> {
        if let Ok(id) = name_or_id.parse::<Uuid>() {
            return Ok(id);
        }
        let all = self.list()?.into_iter();
        let found: Vec<Uuid> = all
            .filter(|o| o.name == name_or_id && o.attrs.contains_key(ROWS_ATTR))
            .map(|o| o.id)
            .collect();
        match found[..] {
            [one] => Ok(one),
            [] => Err(VaultError::BadRequest {
                what: format!(
                    "there is no data set {name_or_id:?}; vault.datasets() names those there are"
                ),
            }),
            _ => Err(VaultError::BadRequest {
                what: format!(
                    "there are {} data sets {name_or_id:?}; give the id of the one that is meant",
                    found.len()
                ),
            }),
        }
    }
}

impl Dataset {
    /// The lineages sealed in it. Datasets from before there were any get one from what neither a rename nor a
    /// re-encryption changes: schema, facts, classes and people.
    pub fn lineages(&self, vault: &Vault) -> Result<Vec<String>> {
        if !self.facts.lineages.is_empty() {
            return Ok(self.facts.lineages.clone());
        }
        let mac = vault.mac("aegis/v1/lineage-of-old", &self.content)?;
        Ok(vec![hex(&mac[..16])])
    }
}
