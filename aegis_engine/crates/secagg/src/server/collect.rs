//! Adverts, the cohort of a round, sealed shares, masked vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::sum::Accumulator;
use super::{Masked, Members, Round, ServerRun, Step, count, enough};
use crate::client::share::{COHORT, check_round};
use crate::error::SecAggError;
use crate::graph::Ring;
use crate::keys;
use crate::message::{Advert, MaskedInput, MaskedRequest, RoundKey, ShareReply, ShareRequest};
use crate::wire::Header;

impl ServerRun {
    /// Takes the advert of `node` (the sender the transport names). A later advert replaces an earlier one from the
    /// next round on. Gives the node that had this identity before, whose seat `node` takes: a node that came back, or two
    /// that were given one identity by mistake.
    ///
    /// # Errors
    /// [`SecAggError::Malformed`], [`SecAggError::WrongRun`], [`SecAggError::WrongStep`] for another sender,
    /// [`SecAggError::UnknownNode`] and [`SecAggError::BadSignature`] by the roster.
    pub fn add_advert(&mut self, node: u64, message: &[u8]) -> Result<Option<u64>, SecAggError> {
        let (header, advert) = Advert::from_bytes(message)?;
        self.same_run(&header)?;
        if header.node != node {
            let reason = "it names another sender";
            return Err(SecAggError::WrongStep {
                step: "advert",
                reason,
            });
        }
        if self
            .roster
            .as_ref()
            .is_some_and(|roster| !roster.contains(&advert.identity))
        {
            return Err(SecAggError::UnknownNode { node });
        }
        advert.verify(self.run)?;
        // A node that came back under another id takes its seat along: clients refuse a cohort with two of an identity.
        let Members { adverts, seats } = Arc::make_mut(&mut self.members);
        let before = seats
            .insert(advert.identity, node)
            .filter(|before| *before != node);
        if let Some(before) = before {
            adverts.remove(&before);
        }
        if let Some(old) = adverts
            .get(&node)
            .filter(|old| old.identity != advert.identity)
        {
            seats.remove(&old.identity);
        }
        adverts.insert(node, advert);
        Ok(before)
    }

    /// Begins a round with those of `cohort` that advertised and take part in so small a cohort; an unfinished round ends.
    /// Returns the share request, the same bytes for every client of [`ServerRun::cohort`].
    ///
    /// # Errors
    /// [`SecAggError::RoundOrder`], [`SecAggError::RoundOutOfRange`], [`SecAggError::NotEnoughClients`] when fewer than `min_clients` advertised,
    /// [`SecAggError::CohortTooSmall`] when too few of those take part in a cohort of this size,
    /// [`SecAggError::InvalidPlan`] when more than `n_max` did. The round number is free again then.
    pub fn begin_round(&mut self, round: u64, cohort: &[u64]) -> Result<Vec<u8>, SecAggError> {
        if round <= self.last_round {
            return Err(SecAggError::RoundOrder {
                round,
                last: self.last_round,
            });
        }
        check_round(round, self.last_round)?;
        let cohort = self.willing(cohort)?;
        let n = count(cohort.len());
        if n > self.plan.n_max {
            return Err(SecAggError::InvalidPlan {
                reason: "the cohort is larger than n_max",
            });
        }
        let shape = self.profile.shape(n);
        let request = ShareRequest {
            shape,
            plan: self.plan.clone(),
            cohort,
        };
        let bytes = request.to_bytes(self.run, round);
        let transcript = keys::hash(COHORT, &[&bytes]);
        let sparse = !shape.is_complete(n);
        self.round = Some(Round {
            shape,
            cohort: request.cohort,
            ring: sparse.then(|| Ring::new(&transcript, n)).transpose()?,
            transcript,
            replies: BTreeMap::new(),
            step: Step::Share,
        });
        self.last_round = round;
        Ok(bytes)
    }

    /// The adverts of a cohort without those who want a larger one: they would refuse, and the others need not fail with them.
    fn willing(&self, cohort: &[u64]) -> Result<Vec<Advert>, SecAggError> {
        let cohort: BTreeSet<u64> = cohort.iter().copied().collect();
        let known = cohort
            .iter()
            .filter_map(|node| self.members.adverts.get(node));
        let mut adverts: Vec<Advert> = known.cloned().collect();
        enough(adverts.len(), self.min_clients)?;
        let all = count(adverts.len());
        let mut minimum = 0;
        loop {
            let n = count(adverts.len());
            let Some(wanted) = adverts.iter().map(|advert| advert.min_cohort).max() else {
                break;
            };
            if wanted <= n {
                break;
            }
            minimum = wanted;
            adverts.retain(|advert| advert.min_cohort < wanted);
        }
        if count(adverts.len()) < self.min_clients {
            return Err(SecAggError::CohortTooSmall { n: all, minimum });
        }
        Ok(adverts)
    }

    /// Takes a client's answer to the share request.
    ///
    /// # Errors
    /// [`SecAggError::WrongStep`] when it is late, [`SecAggError::AlreadyAnswered`], [`SecAggError::UnknownNode`],
    /// [`SecAggError::BadSignature`], [`SecAggError::InconsistentCohort`]. The round goes on without it.
    pub fn add_share(&mut self, node: u64, message: &[u8]) -> Result<(), SecAggError> {
        let (header, reply) = ShareReply::from_bytes(message)?;
        self.check_sender("share", node, &header)?;
        self.current("share")?.add_share(node, header, reply)
    }

    /// Ends the share step: the clients that go on, by node, each of which gets its [`ServerRun::masked_request`]. Those
    /// with too few neighbours that shared are left out. Asked again in the mask step, it gives the same.
    ///
    /// # Errors
    /// [`SecAggError::NotEnoughClients`] when fewer than the threshold or `min_clients` shared (more may still be
    /// added), [`SecAggError::WrongStep`].
    pub fn end_shares(&mut self) -> Result<Vec<u64>, SecAggError> {
        let (width, len) = (self.plan.width()?, self.plan.len()?);
        let min_clients = self.min_clients;
        let round = self.current("masked request")?;
        if matches!(round.step, Step::Share) {
            let inside = round.connected()?;
            enough(inside.len(), round.need(min_clients))?;
            let keys = round
                .replies
                .values()
                .filter(|reply| inside.contains(&reply.key.node))
                .map(|reply| reply.key.clone())
                .collect();
            round.step = Step::Masked(Masked {
                keys,
                sum: Accumulator::new(width, len),
                survivors: BTreeSet::new(),
            });
        }
        let masked = round.masked()?;
        Ok(masked.keys.iter().map(|key| key.node).collect())
    }

    /// What one client of the mask step gets: its neighbours' round keys, and the shares they sealed for it.
    ///
    /// # Errors
    /// [`SecAggError::UnknownNode`] for one that is not in the mask step, [`SecAggError::WrongStep`].
    pub fn masked_request(&self, node: u64) -> Result<Vec<u8>, SecAggError> {
        let round = self.round.as_ref().ok_or(SecAggError::WrongStep {
            step: "masked request",
            reason: "no round is in progress; begin one",
        })?;
        let masked = round.masked()?;
        let around = round.around(round.index(node)?);
        let (mut keys, mut sealed) = (
            Vec::with_capacity(around.len()),
            Vec::with_capacity(around.len()),
        );
        for other in around {
            let Some(key) = masked.key(other) else {
                continue;
            };
            keys.push(key.clone());
            let reply = round.replies.get(&other).map(|reply| &reply.sealed);
            let place =
                reply.and_then(|sealed| sealed.binary_search_by_key(&node, |(to, _)| *to).ok());
            if let (Some(from), Some(place)) = (reply, place) {
                sealed.push((other, from[place].1));
            }
        }
        if masked.key(node).is_none() {
            return Err(SecAggError::UnknownNode { node });
        }
        Ok(MaskedRequest { keys, sealed }.to_bytes(self.run, self.last_round, node))
    }

    /// Adds a masked vector to the sum at once; nothing of it is kept.
    ///
    /// # Errors
    /// [`SecAggError::WrongStep`] when it is late or early, [`SecAggError::AlreadyAnswered`],
    /// [`SecAggError::UnknownNode`], [`SecAggError::Malformed`]. The sum is unchanged then.
    pub fn add_masked(&mut self, node: u64, message: &[u8]) -> Result<(), SecAggError> {
        let (width, len) = (self.plan.width()?, self.plan.len()?);
        let (header, input) = MaskedInput::from_bytes(message, width, len)?;
        self.check_sender("masked input", node, &header)?;
        let round = self.current("masked input")?;
        let Step::Masked(masked) = &mut round.step else {
            let reason = "masked inputs are not being collected: it is early or late";
            return Err(SecAggError::WrongStep {
                step: "masked input",
                reason,
            });
        };
        if masked.key(node).is_none() {
            return Err(SecAggError::UnknownNode { node });
        }
        if !masked.survivors.insert(node) {
            return Err(SecAggError::AlreadyAnswered {
                step: "masked input",
                round: header.round,
            });
        }
        masked.sum.add(input.packed);
        Ok(())
    }
}

impl Masked {
    /// The round key of a client of the mask step.
    pub(super) fn key(&self, node: u64) -> Option<&RoundKey> {
        let place = self.keys.binary_search_by_key(&node, |key| key.node);
        place.ok().map(|place| &self.keys[place])
    }
}

impl Round {
    pub(super) fn add_share(
        &mut self,
        node: u64,
        header: Header,
        reply: ShareReply,
    ) -> Result<(), SecAggError> {
        if !matches!(self.step, Step::Share) {
            let reason = "it is late: the mask step has begun";
            return Err(SecAggError::WrongStep {
                step: "share",
                reason,
            });
        }
        let index = self.index(node)?;
        let identity = &self.cohort[index as usize].identity;
        let signed = RoundKey::signed(&header, &self.transcript, &reply.key.mask_key);
        keys::verify(node, identity, &signed, &reply.key.signature)?;
        if !self
            .near(index)
            .iter()
            .eq(reply.sealed.iter().map(|(to, _)| to))
        {
            let reason = "shares are not for exactly the neighbours";
            return Err(SecAggError::InconsistentCohort {
                round: header.round,
                reason,
            });
        }
        if self.replies.contains_key(&node) {
            return Err(SecAggError::AlreadyAnswered {
                step: "share",
                round: header.round,
            });
        }
        self.replies.insert(node, reply);
        Ok(())
    }

    fn masked(&self) -> Result<&Masked, SecAggError> {
        let reason = match &self.step {
            Step::Masked(masked) => return Ok(masked),
            Step::Share => "the share step has not ended",
            Step::Agreed(_) => "the unmask step has begun",
        };
        Err(SecAggError::WrongStep {
            step: "masked request",
            reason,
        })
    }

    /// Those who shared and have the threshold of such neighbours, themselves counted: leaving one out may leave another
    /// with too few, so this repeats until nobody is.
    fn connected(&self) -> Result<BTreeSet<u64>, SecAggError> {
        let mut inside: BTreeSet<u64> = self.replies.keys().copied().collect();
        if self.ring.is_none() {
            return Ok(inside); // the threshold on their number is the same question
        }
        loop {
            let mut alone = Vec::new();
            for &node in &inside {
                let near = self.near(self.index(node)?);
                let there = near.iter().filter(|other| inside.contains(other)).count() + 1;
                if count(there) < self.shape.threshold {
                    alone.push(node);
                }
            }
            if alone.is_empty() {
                return Ok(inside);
            }
            inside.retain(|node| !alone.contains(node));
        }
    }
}
