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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;

use aegis_audit::{Event, Log};
use aegis_policy::{PolicyError, Role, Subject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::governance::Dataset;
use crate::format::keystore::{Kind, NamedHead};
use crate::kdf::hex;
use crate::secret;
use crate::vault::caches::Register;
use crate::vault::exclusive::Exclusive;
use crate::vault::{Inner, Vault};

const DOMAIN: &str = "aegis/v1/lineage";
/// The name of the register's head in the keystore.
const HEAD: &str = "lineage";
/// People in one record: 32 hex digits each, so that the payload stays below the log's 1 MiB.
const PEOPLE_A_RECORD: usize = 20_000;

/// What a record says of the people behind it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    role: Role,
    /// None: the datasets from before there were lineages are all above.
    lineages: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

fn damaged(seq: u64) -> VaultError {
    PolicyError::Lineage {
        reason: format!("record {seq} is not what the vault wrote"),
    }
    .into()
}

impl Register {
    fn open(inner: &Inner) -> Result<Self> {
        let log = Log::open(
            &inner.layout.lineage(),
            &format!("aegis/lineage/{}", inner.id),
        )?;
        Ok(Self {
            log,
            cursor: None,
            hashes: Vec::new(),
            known: Vec::new(),
            of: HashMap::new(),
            names: BTreeMap::new(),
            adopted: false,
        })
    }

    /// Reads what was appended since.
    fn refresh(&mut self, vault: &Vault) -> Result<()> {
        let folder = vault.inner.layout.lineage();
        let mut records = match self.cursor {
            Some(cursor) => aegis_audit::read_from(&folder, cursor)?,
            None => aegis_audit::read(&folder)?,
        };
        while let Some(record) = records.next() {
            let record = record?;
            if record.body["event"] != Event::RecoveryTruncated.name() {
                self.apply(vault, record.seq, &record.body)?;
            }
            self.hashes.push(record.hash);
            self.cursor = Some(records.cursor());
        }
        self.is_whole(vault)
    }

    /// What the keystore committed last must lie in what was read: otherwise an older register was put back.
    fn is_whole(&self, vault: &Vault) -> Result<()> {
        let Some(head) = vault.head(HEAD)? else {
            return Ok(());
        };
        let place = usize::try_from(head.count).unwrap_or(usize::MAX);
        let there = place
            .checked_sub(1)
            .map_or(Some(&head.mac), |place| self.hashes.get(place));
        if there == Some(&head.mac) {
            return Ok(());
        }
        Err(PolicyError::Lineage {
            reason: format!(
                "{} records are left of {}, or they are others",
                self.hashes.len(),
                head.count
            ),
        }
        .into())
    }

    /// From now on an older register is found.
    fn commit(&self, exclusive: &mut Exclusive<'_>) -> Result<()> {
        if let Some(mac) = self.hashes.last() {
            let head = NamedHead {
                count: self.hashes.len() as u64,
                mac: *mac,
            };
            exclusive.delta.heads.insert(HEAD.to_owned(), head);
            exclusive.commit()?;
        }
        Ok(())
    }

    fn apply(&mut self, vault: &Vault, seq: u64, body: &Value) -> Result<()> {
        let parsed = || {
            let sealed = unhex(body["sealed"].as_str()?)?;
            let plain = vault.open_blob(DOMAIN, &seq.to_le_bytes(), &sealed).ok()?;
            let (length, rest) = plain.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (claim, people) = rest.split_at_checked(length)?;
            let claim: Claim = serde_json::from_slice(claim).ok()?;
            let (people, left) = people.as_chunks::<16>();
            left.is_empty().then(|| (claim, people.to_vec()))
        };
        let (claim, people) = parsed().ok_or_else(|| damaged(seq))?;
        self.adopted |= claim.lineages.is_empty();
        let mut places = Vec::with_capacity(claim.lineages.len());
        for lineage in &claim.lineages {
            let known = self.known.iter().position(|other| other == lineage);
            let place = known.unwrap_or_else(|| {
                self.known.push(lineage.clone());
                self.known.len() - 1
            });
            places.push(u32::try_from(place).unwrap_or(u32::MAX));
        }
        if let [only] = &claim.lineages[..] {
            let names = self.names.entry(only.clone()).or_default();
            names.extend(claim.names);
        }
        for person in people {
            let mine = self.of.entry((claim.role, person)).or_default();
            mine.extend(&places);
            mine.sort_unstable();
            mine.dedup();
        }
        Ok(())
    }

    /// The lineages of any of these people in that role, the oldest first.
    fn meet(&self, role: Role, people: &[Subject]) -> BTreeSet<u32> {
        let of = people
            .iter()
            .filter_map(|person| self.of.get(&(role, *person)));
        of.flatten().copied().collect()
    }

    fn append(&mut self, vault: &Vault, claim: &Claim, people: &[Subject]) -> Result<()> {
        let json = serde_json::to_vec(claim).map_err(|_| damaged(0))?;
        // A claim without people keeps its names.
        let mut chunks: Vec<&[Subject]> = people.chunks(PEOPLE_A_RECORD).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        for chunk in chunks {
            let mut plain = u32::try_from(json.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes()
                .to_vec();
            plain.extend_from_slice(&json);
            plain.extend(chunk.iter().flatten());
            // Only the holder of the vault's lock appends, so the next record's number is known.
            let seq = self.log.newest()?.seq;
            let sealed = vault.seal_blob(DOMAIN, &seq.to_le_bytes(), &plain)?;
            self.log
                .record(Event::Lineage, json!({"sealed": hex(&sealed)}))?;
        }
        self.refresh(vault)
    }
}

impl Vault {
    /// Under the register, up to date.
    fn with_lineages<T>(&self, work: impl FnOnce(&mut Register) -> Result<T>) -> Result<T> {
        let mut held = self
            .inner
            .lineages
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let register = match &mut *held {
            Some(register) => register,
            None => held.insert(Register::open(&self.inner)?),
        };
        register.refresh(self)?;
        work(register)
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
        let mut people = people.to_vec();
        people.sort_unstable();
        people.dedup();
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
                    let mine = register.of.get(&(role, **person));
                    // Somebody known keeps what is theirs; an explicitly named lineage comes to everybody.
                    mine.is_none_or(|mine| !asked.is_empty() && *mine != every)
                })
                .copied()
                .collect();
            if !new.is_empty() {
                let claim = Claim {
                    role,
                    lineages: lineages.clone(),
                    names: Vec::new(),
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
            };
            let mut people = dataset.index.subjects.clone();
            people.sort_unstable();
            people.dedup();
            claims.push((claim, people));
        }
        // Last: until it is there, this begins again, and says the same.
        let done = Claim {
            role: Role::Train,
            lineages: Vec::new(),
            names: Vec::new(),
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
            .filter(|o| {
                o.name == name_or_id && o.attrs.contains_key(crate::format::governance::ROWS_ATTR)
            })
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
    pub(crate) fn lineages(&self, vault: &Vault) -> Result<Vec<String>> {
        if !self.facts.lineages.is_empty() {
            return Ok(self.facts.lineages.clone());
        }
        let mac = vault.mac("aegis/v1/lineage-of-old", &self.content)?;
        Ok(vec![hex(&mac[..16])])
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    pairs
        .iter()
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}
