//! What one client does in a round may be put here, one file for each step.
//!
//! The client's half: what it holds, and how it answers each step.

mod mask;
pub(crate) mod share;
mod state;
mod unmask;

use std::collections::BTreeSet;
use std::fmt;

use crate::error::SecAggError;
use crate::graph::Shape;
use crate::keys::{self, Binding, Position, Sealed};
use crate::message::Advert;
use crate::plan::Plan;
use crate::secret::Key32;
use crate::shamir::{Share, x_of};
use crate::wire::Header;

/// Ed25519 verification keys of those who may take part, from the operator's file ([`SignedRoster`](crate::SignedRoster)).
/// Not by node: a `SuperLink` gives out node ids anew, and an advert binds one to an identity for a run.
pub type Roster = BTreeSet<[u8; 32]>;

/// What this client insists on, whatever the server proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// Smallest cohort it joins; never below 2.
    pub min_cohort: u32,
    /// Smallest threshold it accepts; never below `floor(2n/3) + 1`.
    pub min_threshold: u32,
    /// Pinned identities. With a roster, keys without a valid signature of one of them are refused; without one, the
    /// identities the server relays are taken as they are. An identity has one seat in a cohort either way.
    pub roster: Option<Roster>,
    /// Share of the clients, in percent, that may work with the server against this one: the bounds on the graph, the
    /// threshold and split views are computed for as many. 10 by default.
    pub colluding_percent: u32,
    /// Fewest honest inputs any sum may be forced down to; see [`honest_inputs`](crate::honest_inputs). 2 by default.
    pub min_honest: u32,
    /// Takes part only in rounds with a commit step, also in complete graphs: one trip more a round.
    pub require_commit: bool,
    /// Hash of the policy bundle over this client's data, for its advert; zeros where there is none.
    pub policy: [u8; 32],
    /// Takes part only where every client of the cohort advertises that same policy.
    pub same_policy: bool,
    /// What may be summed beside the update: constants of the client, not of the plan. `None` takes any plan.
    pub sums: Option<Sums>,
}

/// What a client lets be summed beside its update. Another plan is refused at the share step, before anything is worked on: the
/// bounds are public, so that no value of a client decides whether it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Names of the metrics, in order.
    pub metrics: Vec<String>,
    /// Largest absolute value of a metric; one that is larger counts as this.
    pub metric_max: u64,
    /// Largest weight that a plan may ask for.
    pub weight_max: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            min_cohort: 3,
            min_threshold: 2,
            roster: None,
            colluding_percent: 10,
            min_honest: 2,
            require_commit: false,
            policy: [0; 32],
            same_policy: false,
            sums: None,
        }
    }
}

/// One client in one run. Small: the update itself is never kept.
pub struct ClientRun {
    run: u64,
    node: u64,
    pub(crate) limits: ClientLimits,
    identity: Key32,
    channel: Key32,
    /// Last round begun, 0 before the first.
    last_round: u64,
    /// Answers that changed this state: a state with fewer than were seen before was put back.
    answers: u64,
    round: Option<Round>,
}

/// A neighbour as the share request named it.
struct Member {
    node: u64,
    /// Position in the cohort.
    index: u32,
    identity: [u8; 32],
    channel: [u8; 32],
    /// Root of the channel with it.
    root: Key32,
}

impl Member {
    /// The x-coordinate of its shares.
    fn x(&self) -> u64 {
        x_of(self.index)
    }
}

struct Round {
    shape: Shape,
    plan: Plan,
    /// Size of the cohort, and this client's place in it.
    n: u32,
    index: u32,
    /// The neighbours, by node.
    near: Vec<Member>,
    /// Hash of the share request: cohort, shape and plan.
    transcript: [u8; 32],
    /// This client's share of its own seed.
    own_share: Share,
    phase: Phase,
}

enum Phase {
    /// Shares are out, the masked input is not.
    Shared {
        mask_secret: Key32,
        self_seed: Key32,
        /// The sealed shares as they went out, for a server that lost the reply.
        sealed: Vec<(u64, Sealed)>,
    },
    /// The masked input is out; the own mask secrets are gone.
    Masked {
        /// What the neighbours of the mask step shared with this client, by node: of seed and mask secret.
        shares: Vec<(u64, [Share; 2])>,
        /// What the masked input is of.
        binding: Binding,
        /// Hash of the sets that were signed.
        committed: Option<[u8; 32]>,
        /// Hash of the unmask request that was answered.
        answered: Option<[u8; 32]>,
    },
}

impl ClientRun {
    /// A client with a fresh identity: for runs without rosters.
    ///
    /// # Errors
    /// [`SecAggError::Crypto`] when the operating system gives no randomness.
    pub fn new(run_id: u64, node_id: u64, limits: ClientLimits) -> Result<Self, SecAggError> {
        Self::with_identity(run_id, node_id, limits, &*Key32::random()?)
    }

    /// A client with a lasting identity: `seed` is its Ed25519 private key (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// As [`ClientRun::new`].
    pub fn with_identity(
        run_id: u64,
        node_id: u64,
        limits: ClientLimits,
        seed: &[u8; 32],
    ) -> Result<Self, SecAggError> {
        Ok(Self {
            run: run_id,
            node: node_id,
            limits,
            identity: Key32::new(*seed),
            channel: Key32::random()?,
            last_round: 0,
            answers: 0,
            round: None,
        })
    }

    /// The Ed25519 verification key others put in their roster.
    ///
    /// # Errors
    /// [`SecAggError::Crypto`].
    pub fn identity(&self) -> Result<[u8; 32], SecAggError> {
        keys::identity(&self.identity)
    }

    /// This client's node id.
    pub fn node_id(&self) -> u64 {
        self.node
    }

    /// The run it belongs to.
    pub fn run_id(&self) -> u64 {
        self.run
    }

    /// The last round it began; 0 before the first.
    pub fn round(&self) -> u64 {
        self.last_round
    }

    /// How often an answer changed this state. It only grows: who stores the state beside the largest number seen finds one that
    /// was put back, which would answer a second time.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// The plan of the round it is in: names and order of the metrics, `dim`, the encoding.
    pub fn plan(&self) -> Option<&Plan> {
        self.round.as_ref().map(|round| &round.plan)
    }

    /// Identity, channel key, policy and smallest cohort, signed; the same bytes every time.
    ///
    /// # Errors
    /// [`SecAggError::Crypto`].
    pub fn advertise(&self) -> Result<Vec<u8>, SecAggError> {
        let mut advert = Advert {
            node: self.node,
            identity: self.identity()?,
            channel: keys::public_key(&self.channel)?,
            policy: self.limits.policy,
            min_cohort: self.limits.min_cohort,
            signature: [0; 64],
        };
        advert.signature = keys::sign(&self.identity, &advert.signed(self.run))?;
        Ok(advert.to_bytes(self.run))
    }

    /// Whether a client may take part as its advert says: by the roster, and under the policy this one asks for.
    fn admit(&self, advert: &Advert) -> Result<(), SecAggError> {
        let (limits, node) = (&self.limits, advert.node);
        if limits
            .roster
            .as_ref()
            .is_some_and(|roster| !roster.contains(&advert.identity))
        {
            return Err(SecAggError::UnknownNode { node });
        }
        if limits.same_policy && advert.policy != limits.policy {
            return Err(SecAggError::PolicyMismatch { node });
        }
        Ok(())
    }

    const fn place(&self, transcript: [u8; 32]) -> Position {
        Position {
            run: self.run,
            round: self.last_round,
            transcript,
        }
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

    fn addressed(&self, step: &'static str, header: &Header) -> Result<(), SecAggError> {
        if header.node == self.node {
            Ok(())
        } else {
            let reason = "it is addressed to another client";
            Err(SecAggError::WrongStep { step, reason })
        }
    }

    /// The round in progress, if the message belongs to it.
    fn current(&self, step: &'static str, header: &Header) -> Result<&Round, SecAggError> {
        self.same_run(header)?;
        match &self.round {
            Some(round) if header.round == self.last_round => Ok(round),
            _ => Err(SecAggError::WrongStep {
                step,
                reason: "it is not of the round in progress",
            }),
        }
    }
}

/// What a client holds after its masked input.
struct Masked<'a> {
    shares: &'a [(u64, [Share; 2])],
    binding: &'a Binding,
    /// Hash of the signed sets.
    committed: Option<[u8; 32]>,
    /// Hash of the answered request.
    answered: Option<[u8; 32]>,
}

impl Round {
    fn near(&self, node: u64) -> Result<&Member, SecAggError> {
        self.near
            .binary_search_by_key(&node, |member| member.node)
            .map(|place| &self.near[place])
            .map_err(|_| SecAggError::UnknownNode { node })
    }

    fn masked(&self, step: &'static str) -> Result<Masked<'_>, SecAggError> {
        match &self.phase {
            Phase::Masked {
                shares,
                binding,
                committed,
                answered,
            } => Ok(Masked {
                shares,
                binding,
                committed: *committed,
                answered: *answered,
            }),
            Phase::Shared { .. } => Err(SecAggError::WrongStep {
                step,
                reason: "this client has sent no masked input in this round",
            }),
        }
    }
}

impl fmt::Debug for ClientRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRun")
            .field("run", &self.run)
            .field("node", &self.node)
            .field("round", &self.last_round)
            .finish_non_exhaustive()
    }
}
