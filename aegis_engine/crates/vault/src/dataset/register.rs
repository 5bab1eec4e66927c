//! The register of lineages: its records, and what was read of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aegis_audit::{Cursor, Event, Log};
use aegis_policy::{BySubject, DatasetFacts, PolicyError, Role, Subject};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Result, VaultError};
use crate::format::keystore::NamedHead;
use crate::vault::Exclusive;
use crate::vault::{Inner, Vault, hex};

const DOMAIN: &str = "aegis/v1/lineage";
/// The name of the register's head in the keystore.
pub(crate) const HEAD: &str = "lineage";
/// People in one record: 32 hex digits each, so that the payload stays below the log's 1 MiB.
const PEOPLE_A_RECORD: usize = 20_000;

/// Who is in which lineage, as far as this process has read. Opened when first asked.
pub(crate) type Lineages = Option<Register>;

pub(crate) struct Register {
    log: Log,
    cursor: Option<Cursor>,
    /// Of the records read.
    hashes: Vec<[u8; 32]>,
    /// Lineages in the order they came.
    pub known: Vec<String>,
    /// Sets of positions in `known`, ascending, each set once: people are many, sets are few.
    sets: Vec<Vec<u32>>,
    /// A person's set, by its position in `sets`.
    of: HashMap<(Role, Subject), u32, BySubject>,
    /// Names under which the ledger of a lineage was kept before there were lineages.
    pub names: BTreeMap<String, BTreeSet<String>>,
    /// What was promised to the people of a lineage.
    pub promises: HashMap<String, Promise>,
    /// Datasets from before there were lineages are in it.
    pub adopted: bool,
}

/// What all runs together may spend on the people of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promise {
    /// ε, in millionths.
    pub budget_micro_epsilon: u64,
    /// δ that ε is stated at, in units of 1e-15.
    pub delta_femto: u64,
}

impl Promise {
    pub fn of(facts: &DatasetFacts) -> Self {
        Self {
            budget_micro_epsilon: facts.budget_micro_epsilon,
            delta_femto: facts.delta_femto,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            budget_micro_epsilon: self.budget_micro_epsilon.min(other.budget_micro_epsilon),
            delta_femto: self.delta_femto.min(other.delta_femto),
        }
    }
}

/// What a record says of the people behind it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub role: Role,
    /// None: the datasets from before there were lineages are all above.
    pub lineages: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promise>,
}

fn damaged(seq: u64) -> VaultError {
    PolicyError::Lineage {
        reason: format!("record {seq} is not what the vault wrote"),
    }
    .into()
}

impl Register {
    pub fn open(inner: &Inner) -> Result<Self> {
        let log = Log::open(
            &inner.paths.lineage(),
            &format!("aegis/lineage/{}", inner.id),
        )?;
        Ok(Self {
            log,
            cursor: None,
            hashes: Vec::new(),
            known: Vec::new(),
            sets: Vec::new(),
            of: HashMap::default(),
            names: BTreeMap::new(),
            promises: HashMap::new(),
            adopted: false,
        })
    }

    /// Reads what was appended since.
    pub fn refresh(&mut self, vault: &Vault) -> Result<()> {
        // Asked first: somebody may append and commit while the log is read.
        let head = vault.head(HEAD)?;
        let folder = vault.inner.paths.lineage();
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
        self.is_whole(head)
    }

    /// What the keystore committed last must lie in what was read: otherwise an older register was put back.
    fn is_whole(&self, head: Option<NamedHead>) -> Result<()> {
        let Some(head) = head else {
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

    /// With the next commit an older register is found.
    pub fn note(&self, exclusive: &mut Exclusive<'_>) {
        if let Some(mac) = self.hashes.last() {
            let head = NamedHead {
                count: self.hashes.len() as u64,
                mac: *mac,
            };
            exclusive.delta.heads.insert(HEAD.to_owned(), head);
        }
    }

    /// From now on an older register is found.
    pub fn commit(&self, exclusive: &mut Exclusive<'_>) -> Result<()> {
        if self.hashes.is_empty() {
            return Ok(());
        }
        self.note(exclusive);
        exclusive.commit()
    }

    pub fn apply(&mut self, vault: &Vault, seq: u64, body: &Value) -> Result<()> {
        let parsed = || {
            let sealed = HEXLOWER.decode(body["sealed"].as_str()?.as_bytes()).ok()?;
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
            if let Some(promise) = claim.promise {
                self.promises.insert(lineage.clone(), promise);
            }
        }
        if let [only] = &claim.lineages[..] {
            let names = self.names.entry(only.clone()).or_default();
            names.extend(claim.names);
        }
        // What a set becomes with these lineages: worked out once a set, not once a person.
        let mut joined: HashMap<Option<u32>, u32> = HashMap::new();
        for person in people {
            let key = (claim.role, person);
            let mine = self.of.get(&key).copied();
            let set = *joined
                .entry(mine)
                .or_insert_with(|| join(&mut self.sets, mine, &places));
            self.of.insert(key, set);
        }
        Ok(())
    }

    /// The lineages of a person in that role, by their positions in `known`; none of somebody new.
    pub fn lineages_of(&self, role: Role, person: &Subject) -> Option<&[u32]> {
        let set = self.of.get(&(role, *person))?;
        self.sets.get(*set as usize).map(Vec::as_slice)
    }

    /// The lineages of any of these people in that role, the oldest first.
    pub fn meet(&self, role: Role, people: &[Subject]) -> BTreeSet<u32> {
        let of = people
            .iter()
            .filter_map(|person| self.of.get(&(role, *person)));
        let met: BTreeSet<u32> = of.copied().collect();
        let sets = met.iter().filter_map(|set| self.sets.get(*set as usize));
        sets.flatten().copied().collect()
    }

    pub fn append(&mut self, vault: &Vault, claim: &Claim, people: &[Subject]) -> Result<()> {
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

/// The position of a set with more lineages in it.
fn join(sets: &mut Vec<Vec<u32>>, mine: Option<u32>, more: &[u32]) -> u32 {
    let old = mine.and_then(|set| sets.get(set as usize));
    let mut set = old.cloned().unwrap_or_default();
    set.extend(more);
    set.sort_unstable();
    set.dedup();
    let known = sets.iter().position(|other| *other == set);
    let place = known.unwrap_or_else(|| {
        sets.push(set);
        sets.len() - 1
    });
    u32::try_from(place).unwrap_or(u32::MAX)
}
