//! Adverts, the cohort of a round, sealed shares, masked vectors.

use std::collections::{BTreeMap, BTreeSet};

use super::sum::Accumulator;
use super::{Masked, Round, ServerRun, Step, count, enough};
use crate::client::mask::mask_transcript;
use crate::client::share::COHORT;
use crate::message::{Advert, MaskedInput, MaskedRequest, RoundKey, ShareReply, ShareRequest};
use crate::{SecAggError, keys, threshold};

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
        let signed = Advert::signed(self.run, node, &advert.identity, &advert.channel);
        keys::verify(node, &advert.identity, &signed, &advert.signature)?;
        // A node that came back under another id takes its seat along: clients refuse a cohort with two of an identity.
        let before = self
            .adverts
            .values()
            .find(|a| a.identity == advert.identity && a.node != node)
            .map(|a| a.node);
        if let Some(before) = before {
            self.adverts.remove(&before);
        }
        self.adverts.insert(node, advert);
        Ok(before)
    }

    /// Begins a round with those of `cohort` that advertised; an unfinished round ends. Returns the share request,
    /// the same bytes for every client; it carries the threshold floor(2n/3) + 1.
    ///
    /// # Errors
    /// [`SecAggError::RoundOrder`], [`SecAggError::NotEnoughClients`] when fewer than `min_clients` advertised,
    /// [`SecAggError::InvalidPlan`] when more than `n_max` did. The round number is free again then.
    pub fn begin_round(&mut self, round: u64, cohort: &[u64]) -> Result<Vec<u8>, SecAggError> {
        if round <= self.last_round {
            return Err(SecAggError::RoundOrder {
                round,
                last: self.last_round,
            });
        }
        let cohort: BTreeSet<u64> = cohort.iter().copied().collect();
        let adverts: Vec<Advert> = cohort
            .iter()
            .filter_map(|node| self.adverts.get(node))
            .cloned()
            .collect();
        enough(adverts.len(), self.min_clients)?;
        let n = count(adverts.len());
        if n > self.plan.n_max {
            return Err(SecAggError::InvalidPlan {
                reason: "the cohort is larger than n_max",
            });
        }
        let threshold = threshold(n);
        let request = ShareRequest {
            threshold,
            plan: self.plan.clone(),
            cohort: adverts,
        };
        let bytes = request.to_bytes(self.run, round);
        self.last_round = round;
        self.round = Some(Round {
            threshold,
            cohort: request.cohort,
            transcript: keys::hash(COHORT, &[&bytes]),
            replies: BTreeMap::new(),
            step: Step::Share,
        });
        Ok(bytes)
    }

    /// Takes a client's answer to the share request.
    ///
    /// # Errors
    /// [`SecAggError::WrongStep`] when it is late, [`SecAggError::AlreadyAnswered`], [`SecAggError::UnknownNode`],
    /// [`SecAggError::BadSignature`], [`SecAggError::InconsistentCohort`]. The round goes on without it.
    pub fn add_share(&mut self, node: u64, message: &[u8]) -> Result<(), SecAggError> {
        let (header, reply) = ShareReply::from_bytes(message)?;
        self.check_sender("share", node, &header)?;
        let round = self.current("share")?;
        if !matches!(round.step, Step::Share) {
            let reason = "it is late: the mask step has begun";
            return Err(SecAggError::WrongStep {
                step: "share",
                reason,
            });
        }
        let member = round.cohort.iter().find(|advert| advert.node == node);
        let member = member.ok_or(SecAggError::UnknownNode { node })?;
        let signed = RoundKey::signed(&header, &round.transcript, &reply.key.mask_key);
        keys::verify(node, &member.identity, &signed, &reply.key.signature)?;
        let others = round
            .cohort
            .iter()
            .map(|advert| advert.node)
            .filter(|other| *other != node);
        if !others.eq(reply.sealed.iter().map(|(to, _)| *to)) {
            let reason = "shares are not for exactly the other clients";
            return Err(SecAggError::InconsistentCohort {
                round: header.round,
                reason,
            });
        }
        if round.replies.contains_key(&node) {
            return Err(SecAggError::AlreadyAnswered {
                step: "share",
                round: header.round,
            });
        }
        round.replies.insert(node, reply);
        Ok(())
    }

    /// Ends the share step: one masked request for each client that shared, by node. Asked again in the mask
    /// step, it gives the same.
    ///
    /// # Errors
    /// [`SecAggError::NotEnoughClients`] when fewer than the threshold or `min_clients` shared (more may still be
    /// added), [`SecAggError::WrongStep`].
    pub fn masked_requests(&mut self) -> Result<Vec<(u64, Vec<u8>)>, SecAggError> {
        let (width, len) = (self.plan.width()?, self.plan.len()?);
        let (run, number, min_clients) = (self.run, self.last_round, self.min_clients);
        let round = self.current("masked request")?;
        if matches!(round.step, Step::Share) {
            enough(round.replies.len(), round.need(min_clients))?;
            let keys: Vec<_> = round
                .replies
                .values()
                .map(|reply| reply.key.clone())
                .collect();
            round.step = Step::Masked(Masked {
                transcript: mask_transcript(&round.transcript, &keys),
                keys,
                sum: Accumulator::new(width, len),
                survivors: BTreeSet::new(),
            });
        }
        let Step::Masked(masked) = &round.step else {
            let reason = "the unmask step has begun";
            return Err(SecAggError::WrongStep {
                step: "masked request",
                reason,
            });
        };
        let request = |node: u64| {
            let for_node = |reply: &ShareReply| {
                let place = reply
                    .sealed
                    .binary_search_by_key(&node, |(to, _)| *to)
                    .ok()?;
                Some((reply.key.node, reply.sealed[place].1))
            };
            let sealed = round.replies.values().filter_map(for_node).collect();
            MaskedRequest {
                keys: masked.keys.clone(),
                sealed,
            }
            .to_bytes(run, number, node)
        };
        Ok(round
            .replies
            .keys()
            .map(|node| (*node, request(*node)))
            .collect())
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
        if !round.replies.contains_key(&node) {
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
