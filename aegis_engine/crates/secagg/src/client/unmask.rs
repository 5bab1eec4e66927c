//! Commit and unmask steps: the set of survivors, signed where the round asks for it; then for each neighbour the share of
//! its seed (it survived) or of its mask secret (it dropped), never both.

use super::{ClientRun, Masked, Phase, Round};
use crate::error::SecAggError;
use crate::keys;
use crate::message::{Commit, CommitRequest, Sets, UnmaskReply, UnmaskRequest};
use crate::shamir::Share;
use crate::wire::Header;

const COMMIT: &str = "commit";
const STEP: &str = "unmask";
const REQUEST: &[u8] = b"aegis/secagg/v2/unmask-request";

impl ClientRun {
    /// Signs the set of survivors: one a round, the same again when asked again.
    ///
    /// # Errors
    /// As [`ClientRun::unmask`]; [`SecAggError::AlreadyAnswered`] for another set than the one signed.
    pub fn commit(&mut self, request: &[u8]) -> Result<Vec<u8>, SecAggError> {
        let (header, parsed) = CommitRequest::from_bytes(request)?;
        let round = self.current(COMMIT, &header)?;
        if !round.shape.commit {
            let reason = "this round has no commit step";
            return Err(SecAggError::WrongStep {
                step: COMMIT,
                reason,
            });
        }
        let masked = round.masked(COMMIT)?;
        self.check_sets(round, &parsed.sets, masked.shares)?;
        let hash = Commit::hash(&round.transcript, masked.binding, &parsed.sets);
        if masked.committed.is_some_and(|before| before != hash) {
            return Err(SecAggError::AlreadyAnswered {
                step: COMMIT,
                round: header.round,
            });
        }
        let me = Header {
            node: self.node,
            ..header
        };
        let signature = keys::sign(&self.identity, &Commit::signed(&me, &hash))?;
        if let Some(Round {
            phase: Phase::Masked { committed, .. },
            ..
        }) = &mut self.round
        {
            self.answers += u64::from(committed.is_none());
            *committed = Some(hash);
        }
        Ok(Commit { signature }.to_bytes(self.run, header.round, self.node))
    }

    /// Answers an unmask request: once for each round, and again only for the very same request. Where the request
    /// brings the next round's share request and this client accepts it, its shares ride in the reply, and the round
    /// that is over is forgotten; where it refuses that, the reply comes without.
    ///
    /// # Errors
    /// [`SecAggError::InconsistentSets`] when the sets are not those of the mask step, miss this client, or lack the
    /// neighbours' signatures; [`SecAggError::NotEnoughClients`] below the threshold;
    /// [`SecAggError::AlreadyAnswered`] for another request than before; [`SecAggError::WrongStep`] before a masked input.
    pub fn unmask(&mut self, request: &[u8]) -> Result<Vec<u8>, SecAggError> {
        let (header, parsed) = UnmaskRequest::from_bytes(request)?;
        let round = self.current(STEP, &header)?;
        self.addressed(STEP, &header)?;
        let masked = round.masked(STEP)?;
        let wanted = keys::hash(REQUEST, &[request]);
        if masked.answered.is_some_and(|before| before != wanted) {
            return Err(SecAggError::AlreadyAnswered {
                step: STEP,
                round: header.round,
            });
        }
        self.check_sets(round, &parsed.sets, masked.shares)?;
        check_commits(&header, round, &parsed, &masked)?;

        let (mut seeds, mut secrets) = (Vec::new(), Vec::new());
        for (node, [seed, secret]) in masked.shares {
            if parsed.sets.survived(round.near(*node)?.index) {
                seeds.push((*node, seed.clone()));
            } else {
                secrets.push((*node, secret.clone()));
            }
        }
        seeds.push((self.node, round.own_share.clone()));
        seeds.sort_unstable_by_key(|(node, _)| *node);

        if let Some(Round {
            phase: Phase::Masked { answered, .. },
            ..
        }) = &mut self.round
        {
            self.answers += u64::from(answered.is_none());
            *answered = Some(wanted);
        }
        let next = parsed.next.and_then(|next| self.share(next).ok());
        let reply = UnmaskReply {
            seeds,
            secrets,
            next: next.as_deref(),
        };
        Ok(reply.to_bytes(self.run, header.round, self.node))
    }

    /// The sets name, among this client's neighbours, those of its mask step; it survived, and enough with it.
    fn check_sets(
        &self,
        round: &Round,
        sets: &Sets,
        shares: &[(u64, [Share; 2])],
    ) -> Result<(), SecAggError> {
        let refuse = |reason| {
            Err(SecAggError::InconsistentSets {
                round: self.last_round,
                reason,
            })
        };
        if sets.cohort() != round.n {
            return refuse("they are of another cohort");
        }
        if !sets.survived(round.index) {
            return refuse("this client is not among the survivors");
        }
        if !sets.nested() {
            return refuse("a client survived without having shared");
        }
        let named = round.near.iter().filter(|member| sets.shared(member.index));
        if !named
            .map(|member| member.node)
            .eq(shares.iter().map(|(node, _)| *node))
        {
            return refuse("survivors and dropped are not the clients of the mask step");
        }
        let near = round
            .near
            .iter()
            .filter(|member| sets.survived(member.index));
        let have = u32::try_from(near.count())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let enough = |have, need| {
            if have < need {
                Err(SecAggError::NotEnoughClients { have, need })
            } else {
                Ok(())
            }
        };
        enough(have, round.shape.threshold)?;
        enough(sets.survivors(), round.n / 2 + 1)
    }
}

/// Where the round has a commit step: this client signed these very sets, and so did enough of its neighbours.
fn check_commits(
    header: &Header,
    round: &Round,
    request: &UnmaskRequest,
    masked: &Masked,
) -> Result<(), SecAggError> {
    let refuse = |reason| {
        Err(SecAggError::InconsistentSets {
            round: header.round,
            reason,
        })
    };
    if !round.shape.commit {
        return if request.commits.is_empty() {
            Ok(())
        } else {
            refuse("signatures without a commit step")
        };
    }
    // Signatures under another binding do not verify: neighbours that were sent another model are no witnesses.
    let hash = Commit::hash(&round.transcript, masked.binding, &request.sets);
    if masked.committed != Some(hash) {
        return refuse("they are not the sets this client signed");
    }
    for (node, signature) in &request.commits {
        let member = round.near(*node)?;
        if !request.sets.survived(member.index) {
            return refuse("one who signed is not among the survivors");
        }
        let sender = Header {
            node: *node,
            ..*header
        };
        keys::verify(
            *node,
            &member.identity,
            &Commit::signed(&sender, &hash),
            signature,
        )?;
    }
    let have = u32::try_from(request.commits.len())
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    if have < round.shape.threshold {
        return Err(SecAggError::NotEnoughClients {
            have,
            need: round.shape.threshold,
        });
    }
    Ok(())
}
