//! Share step: check the cohort, draw the round's secrets, seal two shares for every neighbour.

use super::{ClientRun, Member, Phase, Round};
use crate::error::SecAggError;
use crate::graph::Ring;
use crate::graph::threshold;
use crate::keys::{self, Exchange, PAIR_LEN, Position, Sealed};
use crate::message::{Advert, RoundKey, ShareReply, ShareRequest};
use crate::plan::Plan;
use crate::secret::Key32;
use crate::shamir::{self, SHARE_LEN, x_of};
use crate::wire::Header;

use zeroize::Zeroizing;

const MAX_ROUND: u64 = 1 << 31;

/// So far a round may be ahead of the last one begun: a client may join late.
const MAX_AHEAD: u64 = 1 << 20;

pub(crate) const COHORT: &[u8] = b"aegis/secagg/v2/transcript/cohort";

impl ClientRun {
    /// Answers a share request. A later round replaces an unfinished one, whose secrets are wiped. Until its masked input, the
    /// very request of the round in progress gets the very same answer again: the server may have lost it.
    ///
    /// # Errors
    /// [`SecAggError::RoundOrder`] for another request of a round that is not later than all before,
    /// [`SecAggError::RoundOutOfRange`], [`SecAggError::PlanNotOurs`] by [`ClientLimits::sums`](crate::ClientLimits),
    /// [`SecAggError::CohortTooSmall`], [`SecAggError::ThresholdRefused`], [`SecAggError::ShapeRefused`],
    /// [`SecAggError::InconsistentCohort`], [`SecAggError::UnknownNode`], [`SecAggError::PolicyMismatch`],
    /// [`SecAggError::BadSignature`], plan errors. A refused request changes nothing.
    pub fn share(&mut self, request: &[u8]) -> Result<Vec<u8>, SecAggError> {
        let (header, parsed) = ShareRequest::from_bytes(request)?;
        self.same_run(&header)?;
        let place = Position {
            run: self.run,
            round: header.round,
            transcript: keys::hash(COHORT, &[request]),
        };
        if let Some(reply) = self.shared_before(&place)? {
            return Ok(reply);
        }
        if header.round <= self.last_round {
            let last = self.last_round;
            return Err(SecAggError::RoundOrder {
                round: header.round,
                last,
            });
        }
        check_round(header.round, self.last_round)?;
        let (n, index) = self.check_cohort(&header, &parsed)?;
        let near = if parsed.shape.is_complete(n) {
            (0..n).filter(|other| *other != index).collect()
        } else {
            Ring::new(&place.transcript, n)?.neighbours(index, parsed.shape.degree)
        };
        let channel = Exchange::new(&self.channel)?;
        let near = near
            .into_iter()
            .map(|at| self.member(at, &parsed.cohort[at as usize], &channel))
            .collect::<Result<Vec<_>, _>>()?;

        let (mask_secret, self_seed) = (Key32::random()?, Key32::random()?);
        // the x-coordinate of a share is its holder's place in the cohort plus one
        let xs: Vec<u64> = near.iter().map(Member::x).chain([x_of(index)]).collect();
        let mut seeds = shamir::split(&self_seed, parsed.shape.threshold, &xs)?;
        // its own mask secret is never asked of a client: who is dropped does not answer
        let secrets = shamir::split(&mask_secret, parsed.shape.threshold, &xs[..near.len()])?;
        let own_share = seeds
            .pop()
            .ok_or(SecAggError::UnknownNode { node: self.node })?;
        let mut sealed = Vec::with_capacity(near.len());
        for ((peer, seed), secret) in near.iter().zip(&seeds).zip(&secrets) {
            let way = (self.node, peer.node);
            let key = place.channel_key(&peer.root, way)?;
            let mut pair = Zeroizing::new([0; PAIR_LEN]);
            pair[..SHARE_LEN].copy_from_slice(&seed.to_bytes()[..]);
            pair[SHARE_LEN..].copy_from_slice(&secret.to_bytes()[..]);
            sealed.push((peer.node, place.seal(&key, way, &pair)?));
        }

        let reply = self.share_reply(&place, &mask_secret, &self_seed, &sealed)?;
        self.last_round = header.round;
        self.answers += 1;
        self.round = Some(Round {
            shape: parsed.shape,
            plan: parsed.plan,
            n,
            index,
            near,
            transcript: place.transcript,
            own_share,
            phase: Phase::Shared {
                mask_secret,
                self_seed,
                sealed,
            },
        });
        Ok(reply)
    }

    /// The answer that a request got when it came before, while this client waits for the masked request.
    fn shared_before(&self, place: &Position) -> Result<Option<Vec<u8>>, SecAggError> {
        let Some(Round {
            transcript,
            phase:
                Phase::Shared {
                    mask_secret,
                    self_seed,
                    sealed,
                },
            ..
        }) = &self.round
        else {
            return Ok(None);
        };
        if *transcript != place.transcript {
            return Ok(None);
        }
        self.share_reply(place, mask_secret, self_seed, sealed)
            .map(Some)
    }

    fn share_reply(
        &self,
        place: &Position,
        mask_secret: &Key32,
        self_seed: &Key32,
        sealed: &[(u64, Sealed)],
    ) -> Result<Vec<u8>, SecAggError> {
        let mask_key = keys::public_key(mask_secret)?;
        let me = Header {
            run: place.run,
            round: place.round,
            node: self.node,
        };
        let message = RoundKey::signed(&me, &place.transcript, &mask_key);
        let reply = ShareReply {
            key: RoundKey {
                node: self.node,
                mask_key,
                signature: keys::sign(&self.identity, &message)?,
            },
            seed_check: place.seed_check(self_seed, self.node)?,
            sealed: sealed.to_vec(),
        };
        Ok(reply.to_bytes(place.run, place.round))
    }

    /// A neighbour whose advert verifies; the root of the channel with it is computed once a run.
    fn member(
        &self,
        index: u32,
        advert: &Advert,
        channel: &Exchange,
    ) -> Result<Member, SecAggError> {
        advert.verify(self.run)?;
        let known = self
            .round
            .as_ref()
            .and_then(|round| round.near(advert.node).ok());
        let root = match known.filter(|member| member.channel == advert.channel) {
            Some(member) => member.root.clone(),
            None => keys::channel_root(self.run, channel, self.node, advert.node, &advert.channel)?,
        };
        Ok(Member {
            node: advert.node,
            index,
            identity: advert.identity,
            channel: advert.channel,
            root,
        })
    }

    /// Size of the cohort and this client's place in it.
    fn check_cohort(
        &self,
        header: &Header,
        request: &ShareRequest,
    ) -> Result<(u32, u32), SecAggError> {
        request.plan.width()?;
        self.check_plan(&request.plan)?;
        let inconsistent = |reason| SecAggError::InconsistentCohort {
            round: header.round,
            reason,
        };
        let n = u32::try_from(request.cohort.len()).unwrap_or(u32::MAX);
        if n > request.plan.n_max {
            return Err(inconsistent("more clients than the plan's n_max"));
        }
        let minimum = self.limits.min_cohort.max(2);
        if n < minimum {
            return Err(SecAggError::CohortTooSmall { n, minimum });
        }
        self.check_shape(n, request)?;
        let me = request
            .cohort
            .binary_search_by_key(&self.node, |advert| advert.node)
            .map_err(|_| inconsistent("this client is not in it"))?;
        // a server that puts another key in this client's place shows itself here
        let own = &request.cohort[me];
        if own.channel != keys::public_key(&self.channel)? || own.identity != self.identity()? {
            return Err(inconsistent("this client's own keys were replaced"));
        }
        let repeats = |key: fn(&Advert) -> [u8; 32]| {
            let mut all: Vec<_> = request.cohort.iter().map(key).collect();
            all.sort_unstable();
            all.windows(2).any(|pair| pair[0] == pair[1])
        };
        if repeats(|advert| advert.channel) {
            return Err(inconsistent("two clients have the same channel key"));
        }
        // One seat each: else a single colluding member could be the whole cohort around one client.
        if repeats(|advert| advert.identity) {
            return Err(inconsistent("two clients have the same identity"));
        }
        for advert in &request.cohort {
            self.admit(advert)?;
        }
        // n fits u32, so a place in the cohort does
        Ok((n, u32::try_from(me).unwrap_or(u32::MAX)))
    }

    /// The sums are this client's own, so that no bound of the server's can tell it about a value here.
    fn check_plan(&self, plan: &Plan) -> Result<(), SecAggError> {
        let Some(own) = &self.limits.sums else {
            return Ok(());
        };
        let refused = |reason| Err(SecAggError::PlanNotOurs { reason });
        if plan.metrics != own.metrics {
            return refused("its metrics are others than this client counts");
        }
        if plan.encoding.metric_max != own.metric_max {
            return refused("its metric_max differs from this client's");
        }
        if plan.encoding.weight_max > own.weight_max {
            return refused("its weight_max is above this client's");
        }
        Ok(())
    }

    fn check_shape(&self, n: u32, request: &ShareRequest) -> Result<(), SecAggError> {
        let (shape, limits) = (&request.shape, &self.limits);
        let holders = shape.degree.saturating_add(1);
        let least = if shape.is_complete(n) {
            threshold(n)
        } else {
            holders / 2 + 1
        };
        let minimum = limits.min_threshold.max(least);
        if !(minimum..=holders).contains(&shape.threshold) {
            return Err(SecAggError::ThresholdRefused {
                threshold: shape.threshold,
                minimum,
                n,
            });
        }
        let refused = |reason| SecAggError::ShapeRefused {
            degree: shape.degree,
            n,
            reason,
        };
        if limits.require_commit && !shape.commit {
            return Err(refused("this client wants the commit step in every round"));
        }
        shape
            .secure(n, limits.colluding_percent, limits.min_honest)
            .map_err(refused)
    }
}

/// A number far ahead would use up all rounds at once: the run would be dead.
pub(crate) fn check_round(round: u64, last: u64) -> Result<(), SecAggError> {
    if round == 0 || round > MAX_ROUND || round - last.min(round) > MAX_AHEAD {
        return Err(SecAggError::RoundOutOfRange { round });
    }
    Ok(())
}
