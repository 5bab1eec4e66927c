//! Share step: check the cohort, draw the round's secrets, seal two shares for everyone else.

use std::collections::BTreeSet;

use super::{ClientRun, Member, Phase, Round};
use crate::keys::{self, PAIR_LEN};
use crate::message::{Advert, RoundKey, ShareReply, ShareRequest};
use crate::shamir::{self, SHARE_LEN};
use crate::wire::Header;
use crate::{SecAggError, threshold};
use zeroize::Zeroizing;

pub(crate) const COHORT: &[u8] = b"aegis/secagg/v1/transcript/cohort";

impl ClientRun {
    /// Answers a share request. A later round replaces an unfinished one, whose secrets are wiped.
    ///
    /// # Errors
    /// [`SecAggError::RoundOrder`] for a round that is not later than all before, [`SecAggError::CohortTooSmall`],
    /// [`SecAggError::ThresholdRefused`], [`SecAggError::InconsistentCohort`], [`SecAggError::UnknownNode`],
    /// [`SecAggError::BadSignature`], plan errors. A refused request changes nothing.
    pub fn share(&mut self, request: &[u8]) -> Result<Vec<u8>, SecAggError> {
        let (header, parsed) = ShareRequest::from_bytes(request)?;
        self.same_run(&header)?;
        if header.round <= self.last_round {
            let last = self.last_round;
            return Err(SecAggError::RoundOrder {
                round: header.round,
                last,
            });
        }
        let n = self.check_cohort(&header, &parsed)?;

        let place = keys::Place {
            run: self.run,
            round: header.round,
            transcript: keys::hash(COHORT, &[request]),
        };
        let (mask_secret, self_seed) = (keys::random::<32>()?, keys::random::<32>()?);
        let seeds = shamir::split(&self_seed, parsed.threshold, n)?;
        let secrets = shamir::split(&mask_secret, parsed.threshold, n)?;

        let mut sealed = Vec::with_capacity(seeds.len() - 1);
        let mut own_share = None;
        for ((peer, seed), secret) in parsed.cohort.iter().zip(&seeds).zip(&secrets) {
            if peer.node == self.node {
                // its own mask secret is never asked for: who is dropped does not answer
                own_share = Some(seed.clone());
                continue;
            }
            let way = (self.node, peer.node);
            let key = place.channel_key(&self.channel, peer.node, &peer.channel, way)?;
            let mut pair = Zeroizing::new([0; PAIR_LEN]);
            pair[..SHARE_LEN].copy_from_slice(&seed.to_bytes()[..]);
            pair[SHARE_LEN..].copy_from_slice(&secret.to_bytes()[..]);
            sealed.push((peer.node, place.seal(&key, way, &pair)?));
        }
        let own_share = own_share.ok_or(SecAggError::UnknownNode { node: self.node })?;

        let mask_key = keys::public_key(&mask_secret)?;
        let me = Header {
            node: self.node,
            ..header
        };
        let message = RoundKey::signed(&me, &place.transcript, &mask_key);
        let signature = keys::sign(&self.identity, &message)?;
        let reply = ShareReply {
            key: RoundKey {
                node: self.node,
                mask_key,
                signature,
            },
            sealed,
        };

        let member = |a: Advert| Member {
            node: a.node,
            identity: a.identity,
            channel: a.channel,
        };
        self.last_round = header.round;
        self.round = Some(Round {
            threshold: parsed.threshold,
            plan: parsed.plan,
            cohort: parsed.cohort.into_iter().map(member).collect(),
            transcript: place.transcript,
            own_share,
            phase: Phase::Shared {
                mask_secret,
                self_seed,
            },
        });
        Ok(reply.to_bytes(self.run, header.round))
    }

    fn check_cohort(&self, header: &Header, request: &ShareRequest) -> Result<u32, SecAggError> {
        request.plan.width()?;
        let inconsistent = |reason| {
            Err(SecAggError::InconsistentCohort {
                round: header.round,
                reason,
            })
        };
        let n = u32::try_from(request.cohort.len()).unwrap_or(u32::MAX);
        if n > request.plan.n_max {
            return inconsistent("more clients than the plan's n_max");
        }
        let minimum = self.limits.min_cohort.max(2);
        if n < minimum {
            return Err(SecAggError::CohortTooSmall { n, minimum });
        }
        let minimum = self.limits.min_threshold.max(threshold(n));
        if !(minimum..=n).contains(&request.threshold) {
            let threshold = request.threshold;
            return Err(SecAggError::ThresholdRefused {
                threshold,
                minimum,
                n,
            });
        }
        let Some(me) = request
            .cohort
            .iter()
            .find(|advert| advert.node == self.node)
        else {
            return inconsistent("this client is not in it");
        };
        // a server that puts another key in this client's place shows itself here
        if me.channel != keys::public_key(&self.channel)? || me.identity != self.identity()? {
            return inconsistent("this client's own keys were replaced");
        }
        let distinct: BTreeSet<_> = request.cohort.iter().map(|advert| advert.channel).collect();
        if distinct.len() != request.cohort.len() {
            return inconsistent("two clients have the same channel key");
        }
        // One seat each: else a single colluding member could be the whole cohort around one client.
        let distinct: BTreeSet<_> = request
            .cohort
            .iter()
            .map(|advert| advert.identity)
            .collect();
        if distinct.len() != request.cohort.len() {
            return inconsistent("two clients have the same identity");
        }
        for advert in &request.cohort {
            self.admit(advert.node, &advert.identity)?;
            let message = Advert::signed(self.run, advert.node, &advert.identity, &advert.channel);
            keys::verify(advert.node, &advert.identity, &message, &advert.signature)?;
        }
        Ok(n)
    }
}
