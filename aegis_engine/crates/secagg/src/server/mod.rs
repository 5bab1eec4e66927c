//! What the server does in a round may be put here, one file for each step.
//!
//! The server's half: collects, adds, unmasks the sum. It keeps one accumulator, never a client's vector.

mod collect;
mod recover;
mod sum;
mod unmask;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::client::Roster;
use crate::error::SecAggError;
use crate::graph::{Ring, Shape};
use crate::keys::Binding;
use crate::message::{Advert, RoundKey, Sets, ShareReply};
use crate::plan::Plan;
use crate::shamir::Share;
use crate::wire::Header;
use sum::Accumulator;
pub use sum::{FalseShare, Sum};

/// How the clients of a round are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Profile S, to a few hundred clients: a complete graph; two trips a round in the steady state, three with `commit`.
    Complete {
        /// Whether clients agree on the survivors before they unmask.
        commit: bool,
    },
    /// Profile D, to 10 000 and more: the sparsest graph that bears these shares of the clients, with the commit step; a
    /// complete graph where the cohort is too small for a sparse one.
    Sparse {
        /// Percent of the clients that may work with the server.
        colluding: u32,
        /// Percent that may drop out.
        lost: u32,
    },
}

impl Profile {
    /// The shape of a round of `n` clients.
    pub fn shape(self, n: u32) -> Shape {
        let complete = |commit| Shape {
            commit,
            ..Shape::complete(n)
        };
        match self {
            Self::Complete { commit } => complete(commit),
            Self::Sparse { colluding, lost } => {
                Shape::sparse(n, colluding, lost).unwrap_or_else(|| complete(true))
            }
        }
    }
}

/// The server of one run.
#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
pub struct ServerRun {
    run: u64,
    plan: Plan,
    min_clients: u32,
    profile: Profile,
    roster: Option<Roster>,
    /// Shared with forks until one of them takes another advert.
    members: Arc<Members>,
    last_round: u64,
    binding: Binding,
    round: Option<Round>,
}

/// Who advertised.
#[derive(Debug, Clone, Default, PartialEq)]
struct Members {
    adverts: BTreeMap<u64, Advert>,
    /// The node each identity sits on.
    seats: BTreeMap<[u8; 32], u64>,
}

#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
struct Round {
    shape: Shape,
    cohort: Vec<Advert>,
    /// `None` in a complete graph.
    ring: Option<Ring>,
    transcript: [u8; 32],
    replies: BTreeMap<u64, ShareReply>,
    step: Step,
}

#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
enum Step {
    Share,
    Masked(Masked),
    Agreed(Agreed),
}

/// Masked vectors are coming in.
#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
struct Masked {
    keys: Vec<RoundKey>,
    sum: Accumulator,
    survivors: BTreeSet<u64>,
}

/// The survivors are fixed; signatures and shares are coming in.
#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
struct Agreed {
    masked: Masked,
    sets: Sets,
    commits: BTreeMap<u64, [u8; 64]>,
    answers: BTreeMap<u64, Answer>,
}

/// A survivor's shares, each list by node.
#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
struct Answer {
    seeds: Vec<(u64, Share)>,
    secrets: Vec<(u64, Share)>,
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
            profile: Profile::Complete { commit: false },
            roster: None,
            members: Arc::default(),
            last_round: 0,
            binding: [0; 32],
            round: None,
        })
    }

    /// Another server of this run, with the same adverts and no round: for another group of clients in the same round, or
    /// for the round that follows, whose share request rides in the unmask requests of this one.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            run: self.run,
            plan: self.plan.clone(),
            min_clients: self.min_clients,
            profile: self.profile,
            roster: self.roster.clone(),
            members: Arc::clone(&self.members),
            last_round: self.last_round,
            binding: [0; 32],
            round: None,
        }
    }

    /// Says what the clients of the round are sent to work on: the hash that each of them makes of it. Before it the hash is 32
    /// zeros; with another than the clients' no sum comes out. A [`ServerRun::fork`] has its own.
    pub fn bind(&mut self, binding: [u8; 32]) {
        self.binding = binding;
    }

    /// Connects the clients another way than by a complete graph without a commit step.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
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

    /// Fewest clients with which the round in progress can go on; 0 when there is none.
    pub fn need(&self) -> u32 {
        let round = self.round.as_ref();
        round.map_or(0, |round| round.need(self.min_clients))
    }

    /// The shape of the newest round; `None` when none is in progress.
    pub fn shape(&self) -> Option<Shape> {
        self.round.as_ref().map(|round| round.shape)
    }

    /// The clients of the newest round, by node; none when no round is in progress.
    pub fn cohort(&self) -> Vec<u64> {
        let cohort = self.round.iter().flat_map(|round| &round.cohort);
        cohort.map(|advert| advert.node).collect()
    }

    /// Those of the cohort whose answers to the share request have not come.
    pub fn missing(&self) -> Vec<u64> {
        let Some(round) = &self.round else {
            return Vec::new();
        };
        let nodes = round.cohort.iter().map(|advert| advert.node);
        nodes
            .filter(|node| !round.replies.contains_key(node))
            .collect()
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
        let floor = if self.ring.is_none() {
            self.shape.threshold
        } else {
            self.n() / 2 + 1
        };
        floor.max(min_clients)
    }

    fn n(&self) -> u32 {
        count(self.cohort.len())
    }

    /// A node's place in the cohort.
    fn index(&self, node: u64) -> Result<u32, SecAggError> {
        self.cohort
            .binary_search_by_key(&node, |advert| advert.node)
            .map(count)
            .map_err(|_| SecAggError::UnknownNode { node })
    }

    /// A client and its neighbours, by node: the holders of shares of its seed.
    fn around(&self, index: u32) -> Vec<u64> {
        let node = self.cohort[index as usize].node;
        let mut around = self.near(index);
        around.insert(around.partition_point(|other| *other < node), node);
        around
    }

    /// The neighbours of a client, by node.
    fn near(&self, index: u32) -> Vec<u64> {
        let node = |at: u32| self.cohort[at as usize].node;
        match &self.ring {
            None => (0..self.n())
                .filter(|other| *other != index)
                .map(node)
                .collect(),
            Some(ring) => ring
                .neighbours(index, self.shape.degree)
                .into_iter()
                .map(node)
                .collect(),
        }
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
            .field("adverts", &self.members.adverts.len())
            .finish_non_exhaustive()
    }
}
