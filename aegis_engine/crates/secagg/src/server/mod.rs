//! The server's half: collects, adds, unmasks the sum. It keeps one accumulator, never a client's vector.

mod collect;
mod sum;
mod unmask;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::SecAggError;
use crate::client::Roster;
use crate::encode::Plan;
use crate::message::{Advert, RoundKey, ShareReply, UnmaskReply};
use crate::wire::Header;
use sum::Accumulator;

/// What a round gives: exact integers and the mean they stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// The plain integer sum over the contributors: weighted values, weight, metrics.
    pub integers: Vec<i64>,
    /// Whose contributions are in it, in increasing order.
    pub contributors: Vec<u64>,
    /// Sum of the weights.
    pub weight: u64,
    /// Sums of the metrics by name.
    pub metrics: BTreeMap<String, i64>,
    /// Weighted mean of the values, `dim` of them, in the units of the updates.
    pub mean: Vec<f64>,
}

/// The server of one run.
pub struct ServerRun {
    run: u64,
    plan: Plan,
    min_clients: u32,
    roster: Option<Roster>,
    adverts: BTreeMap<u64, Advert>,
    last_round: u64,
    round: Option<Round>,
}

struct Round {
    threshold: u32,
    cohort: Vec<Advert>,
    transcript: [u8; 32],
    replies: BTreeMap<u64, ShareReply>,
    step: Step,
}

enum Step {
    Share,
    Masked(Masked),
    Unmask(Unmask),
}

/// Masked vectors are coming in.
struct Masked {
    keys: Vec<RoundKey>,
    transcript: [u8; 32],
    sum: Accumulator,
    survivors: BTreeSet<u64>,
}

/// The survivors are fixed; shares are coming in.
struct Unmask {
    masked: Masked,
    survivors: Vec<u64>,
    dropped: Vec<u64>,
    replies: BTreeMap<u64, UnmaskReply>,
}

impl ServerRun {
    /// A server for one run; `min_clients` is the smallest number of contributions it adds up (2 or more).
    ///
    /// # Errors
    /// [`SecAggError::InvalidPlan`], [`SecAggError::EncodingDoesNotFit`].
    pub fn new(run_id: u64, plan: Plan, min_clients: u32) -> Result<Self, SecAggError> {
        plan.width()?;
        plan.len()?;
        if !(2..=plan.n_max).contains(&min_clients) {
            let reason = "min_clients must be 2 to n_max";
            return Err(SecAggError::InvalidPlan { reason });
        }
        Ok(Self {
            run: run_id,
            plan,
            min_clients,
            roster: None,
            adverts: BTreeMap::new(),
            last_round: 0,
            round: None,
        })
    }

    /// Accepts only adverts signed by the identities of this roster.
    #[must_use]
    pub fn with_roster(mut self, roster: Roster) -> Self {
        self.roster = Some(roster);
        self
    }

    /// The run.
    pub fn run_id(&self) -> u64 {
        self.run
    }

    /// What is summed.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The last round begun; 0 before the first.
    pub fn round(&self) -> u64 {
        self.last_round
    }

    fn same_run(&self, header: &Header) -> Result<(), SecAggError> {
        if header.run == self.run {
            Ok(())
        } else {
            Err(SecAggError::WrongRun {
                expected: self.run,
                found: header.run,
            })
        }
    }

    /// Checks that a message is of this run and round and was sent by the node that delivered it.
    fn check_sender(
        &self,
        step: &'static str,
        node: u64,
        header: &Header,
    ) -> Result<(), SecAggError> {
        self.same_run(header)?;
        if header.round != self.last_round {
            return Err(SecAggError::WrongStep {
                step,
                reason: "it is of another round",
            });
        }
        if header.node != node {
            return Err(SecAggError::WrongStep {
                step,
                reason: "it names another sender",
            });
        }
        Ok(())
    }

    fn current(&mut self, step: &'static str) -> Result<&mut Round, SecAggError> {
        let reason = "no round is in progress; begin one";
        self.round
            .as_mut()
            .ok_or(SecAggError::WrongStep { step, reason })
    }
}

impl Round {
    fn need(&self, min_clients: u32) -> u32 {
        self.threshold.max(min_clients)
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn enough(have: usize, need: u32) -> Result<(), SecAggError> {
    let have = count(have);
    if have < need {
        Err(SecAggError::NotEnoughClients { have, need })
    } else {
        Ok(())
    }
}

impl fmt::Debug for ServerRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRun")
            .field("run", &self.run)
            .field("round", &self.last_round)
            .field("adverts", &self.adverts.len())
            .finish_non_exhaustive()
    }
}
