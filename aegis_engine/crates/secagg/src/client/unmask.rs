//! Unmask step: for each peer the share of its seed (it survived) or of its mask secret (it dropped), never both.

use super::{ClientRun, Phase, Round};
use crate::SecAggError;
use crate::keys;
use crate::message::{UnmaskReply, UnmaskRequest};

const STEP: &str = "unmask";
const REQUEST: &[u8] = b"aegis/secagg/v1/unmask-request";

impl ClientRun {
    /// Answers an unmask request: once for each round, and again only for the very same sets.
    ///
    /// # Errors
    /// [`SecAggError::InconsistentSets`] when survivors and dropped overlap, do not make up the clients of the mask
    /// step, miss this client among the survivors; [`SecAggError::NotEnoughClients`] below the threshold;
    /// [`SecAggError::AlreadyAnswered`] for other sets than before; [`SecAggError::WrongStep`] before a masked input.
    pub fn unmask(&mut self, request: &[u8]) -> Result<Vec<u8>, SecAggError> {
        let (header, parsed) = UnmaskRequest::from_bytes(request)?;
        let round = self.current(STEP, &header)?;
        let Phase::Masked { sealed, answered } = &round.phase else {
            let reason = "this client has sent no masked input in this round";
            return Err(SecAggError::WrongStep { step: STEP, reason });
        };
        let wanted = keys::hash(REQUEST, &[request]);
        if answered.is_some_and(|before| before != wanted) {
            return Err(SecAggError::AlreadyAnswered {
                step: STEP,
                round: header.round,
            });
        }
        self.check_sets(round, &parsed, sealed.iter().map(|(node, _)| *node))?;

        let mut reply = UnmaskReply {
            seeds: Vec::new(),
            secrets: Vec::new(),
        };
        for (node, sealed) in sealed {
            let [seed, secret] = self.open_shares(round, *node, sealed)?;
            if parsed.survivors.binary_search(node).is_ok() {
                reply.seeds.push((*node, seed));
            } else {
                reply.secrets.push((*node, secret));
            }
        }
        reply.seeds.push((self.node, round.own_share.clone()));
        reply.seeds.sort_unstable_by_key(|(node, _)| *node);

        let out = reply.to_bytes(self.run, header.round, self.node);
        if let Some(Round {
            phase: Phase::Masked { answered, .. },
            ..
        }) = &mut self.round
        {
            *answered = Some(wanted);
        }
        Ok(out)
    }

    fn check_sets(
        &self,
        round: &Round,
        sets: &UnmaskRequest,
        peers: impl Iterator<Item = u64>,
    ) -> Result<(), SecAggError> {
        let refuse = |reason| {
            Err(SecAggError::InconsistentSets {
                round: self.last_round,
                reason,
            })
        };
        if sets.survivors.binary_search(&self.node).is_err() {
            return refuse("this client is not among the survivors");
        }
        // together they must be the clients of the mask step: as many, each in one of the two, none in both
        let mut peers: Vec<u64> = peers.chain([self.node]).collect();
        peers.sort_unstable();
        let mut named = [&sets.survivors[..], &sets.dropped[..]].concat();
        named.sort_unstable();
        if named.windows(2).any(|pair| pair[0] == pair[1]) {
            return refuse("a client is both survivor and dropped");
        }
        if named != peers {
            return refuse("survivors and dropped are not the clients of the mask step");
        }
        let have = u32::try_from(sets.survivors.len()).unwrap_or(u32::MAX);
        if have < round.threshold {
            return Err(SecAggError::NotEnoughClients {
                have,
                need: round.threshold,
            });
        }
        Ok(())
    }
}
