//! The commit and unmask steps.

use super::recover::removals;
use super::{Agreed, Answer, Masked, Round, ServerRun, Step, Sum, enough};
use crate::error::SecAggError;
use crate::keys::{self, Position};
use crate::mask::Mask;
use crate::message::{Commit, CommitRequest, Sets, UnmaskReply, UnmaskRequest};
use crate::shamir::Share;

/// Masks expanded at once: a key schedule each, so that a round of thousands stays small in memory.
const BATCH: usize = 1024;

impl ServerRun {
    /// Ends the mask step: the survivors (those whose masked input arrived), by node. Asked again, the same. With a
    /// commit step they get the [`ServerRun::commit_request`] first, then, or at once, the [`ServerRun::unmask_request`].
    ///
    /// # Errors
    /// [`SecAggError::NotEnoughClients`] when fewer than the threshold or `min_clients` sent one, in all or around one
    /// client (more may still be added), [`SecAggError::WrongStep`].
    pub fn end_masked(&mut self) -> Result<Vec<u64>, SecAggError> {
        let min_clients = self.min_clients;
        let round = self.current("unmask request")?;
        if let Step::Masked(masked) = &round.step {
            enough(masked.survivors.len(), round.need(min_clients))?;
            let sets = round.sets(masked);
            round.check_holders(&sets, |node| masked.survivors.contains(&node))?;
            round.step = match std::mem::replace(&mut round.step, Step::Share) {
                Step::Masked(masked) => Step::Agreed(Agreed {
                    masked,
                    sets,
                    commits: std::collections::BTreeMap::new(),
                    answers: std::collections::BTreeMap::new(),
                }),
                other => other,
            };
        }
        let agreed = round.agreed("unmask request")?;
        Ok(agreed.masked.survivors.iter().copied().collect())
    }

    /// The sets every survivor signs, the same bytes for all.
    ///
    /// # Errors
    /// [`SecAggError::WrongStep`] before [`ServerRun::end_masked`] or in a round without a commit step.
    pub fn commit_request(&self) -> Result<Vec<u8>, SecAggError> {
        let (round, agreed) = self.agreed("commit request")?;
        if !round.shape.commit {
            let reason = "this round has no commit step";
            return Err(SecAggError::WrongStep {
                step: "commit request",
                reason,
            });
        }
        let sets = agreed.sets.clone();
        Ok(CommitRequest { sets }.to_bytes(self.run, self.last_round))
    }

    /// Takes a survivor's signature of the sets.
    ///
    /// # Errors
    /// [`SecAggError::UnknownNode`] for one that is no survivor, [`SecAggError::BadSignature`],
    /// [`SecAggError::AlreadyAnswered`], [`SecAggError::WrongStep`]. The round goes on without it.
    pub fn add_commit(&mut self, node: u64, message: &[u8]) -> Result<(), SecAggError> {
        let (header, commit) = Commit::from_bytes(message)?;
        self.check_sender("commit", node, &header)?;
        let binding = self.binding;
        let round = self.current("commit")?;
        let index = round.index(node)?;
        let agreed = round.agreed("commit")?;
        if !agreed.sets.survived(index) {
            return Err(SecAggError::UnknownNode { node });
        }
        let hash = Commit::hash(&round.transcript, &binding, &agreed.sets);
        let identity = &round.cohort[index as usize].identity;
        keys::verify(
            node,
            identity,
            &Commit::signed(&header, &hash),
            &commit.signature,
        )?;
        let Step::Agreed(agreed) = &mut round.step else {
            return Err(SecAggError::UnknownNode { node });
        };
        if agreed.commits.contains_key(&node) {
            return Err(SecAggError::AlreadyAnswered {
                step: "commit",
                round: header.round,
            });
        }
        agreed.commits.insert(node, commit.signature);
        Ok(())
    }

    /// What a survivor gets: the sets, its neighbours' signatures of them where the round has a commit step, and `next`, the
    /// share request of a round that follows ([`ServerRun::begin_round`] of a [`ServerRun::fork`]) where it is in that cohort.
    ///
    /// # Errors
    /// [`SecAggError::UnknownNode`] for one that is no survivor, [`SecAggError::NotEnoughClients`] while too few of its
    /// neighbours signed, [`SecAggError::WrongStep`].
    pub fn unmask_request(&self, node: u64, next: Option<&[u8]>) -> Result<Vec<u8>, SecAggError> {
        let (round, agreed) = self.agreed("unmask request")?;
        let index = round.index(node)?;
        if !agreed.sets.survived(index) {
            return Err(SecAggError::UnknownNode { node });
        }
        let mut commits = Vec::new();
        if round.shape.commit {
            let near = round.near(index);
            let signed = |other: u64| Some((other, *agreed.commits.get(&other)?));
            commits = near.into_iter().filter_map(signed).collect();
            let own = usize::from(agreed.commits.contains_key(&node));
            enough(commits.len() + own, round.shape.threshold)?;
        }
        let request = UnmaskRequest {
            sets: agreed.sets.clone(),
            commits,
            next,
        };
        Ok(request.to_bytes(self.run, self.last_round, node))
    }

    /// Takes a survivor's shares. Gives its answer to the next round's share request where one came along: for
    /// [`ServerRun::add_share`] of that round's server, which checks it.
    ///
    /// # Errors
    /// [`SecAggError::UnknownNode`] for one that is no survivor, [`SecAggError::InconsistentSets`] for other shares
    /// than asked for, [`SecAggError::AlreadyAnswered`], [`SecAggError::WrongStep`]. The round goes on without it.
    pub fn add_unmask(
        &mut self,
        node: u64,
        message: &[u8],
    ) -> Result<Option<Vec<u8>>, SecAggError> {
        let (header, reply) = UnmaskReply::from_bytes(message)?;
        self.check_sender("unmask", node, &header)?;
        let round = self.current("unmask")?;
        let index = round.index(node)?;
        let (seeds, secrets) = round.wanted(index, node)?;
        let Step::Agreed(agreed) = &mut round.step else {
            return Err(SecAggError::UnknownNode { node });
        };
        if !agreed.sets.survived(index) {
            return Err(SecAggError::UnknownNode { node });
        }
        let same =
            |shares: &[(u64, Share)], nodes: &[u64]| shares.iter().map(|(node, _)| node).eq(nodes);
        if !same(&reply.seeds, &seeds) || !same(&reply.secrets, &secrets) {
            let reason = "the reply holds other shares than asked for";
            return Err(SecAggError::InconsistentSets {
                round: header.round,
                reason,
            });
        }
        if agreed.answers.contains_key(&node) {
            return Err(SecAggError::AlreadyAnswered {
                step: "unmask",
                round: header.round,
            });
        }
        let answer = Answer {
            seeds: reply.seeds,
            secrets: reply.secrets,
        };
        agreed.answers.insert(node, answer);
        Ok(reply.next.map(<[u8]>::to_vec))
    }

    /// The sum of the survivors' contributions; the round is over.
    ///
    /// # Errors
    /// [`SecAggError::NotEnoughClients`] while fewer than the threshold answered (more may still be added),
    /// [`SecAggError::SharesDisagree`], [`SecAggError::ImplausibleSum`] when some client sent a false message.
    pub fn finish(&mut self) -> Result<Sum, SecAggError> {
        let (run, number, binding) = (self.run, self.last_round, self.binding);
        let round = self.current("finish")?;
        let agreed = round.agreed("finish")?;
        round.check_holders(&agreed.sets, |node| agreed.answers.contains_key(&node))?;
        let place = Position {
            run,
            round: number,
            transcript: round.transcript,
        };
        let found = removals(&place, binding, round, agreed)?;

        // nothing is taken out of the round before all secrets are known, so a failure above loses nothing
        let Some(Round {
            step: Step::Agreed(Agreed { masked, .. }),
            ..
        }) = self.round.take()
        else {
            let reason = "no round is in progress; begin one";
            return Err(SecAggError::WrongStep {
                step: "finish",
                reason,
            });
        };
        let Masked {
            mut sum, survivors, ..
        } = masked;
        for batch in found.masks.chunks(BATCH) {
            let masks: Result<Vec<_>, _> = batch
                .iter()
                .map(|(key, negate)| Mask::new(key, *negate))
                .collect();
            sum.apply(&masks?)?;
        }
        let mut sum = Sum::of(&self.plan, sum, survivors.into_iter().collect())?;
        sum.false_shares = found.false_shares;
        Ok(sum)
    }

    fn agreed(&self, step: &'static str) -> Result<(&Round, &Agreed), SecAggError> {
        let reason = "no round is in progress; begin one";
        let round = self
            .round
            .as_ref()
            .ok_or(SecAggError::WrongStep { step, reason })?;
        Ok((round, round.agreed(step)?))
    }
}

impl Round {
    fn agreed(&self, step: &'static str) -> Result<&Agreed, SecAggError> {
        match &self.step {
            Step::Agreed(agreed) => Ok(agreed),
            _ => Err(SecAggError::WrongStep {
                step,
                reason: "the mask step has not ended",
            }),
        }
    }

    fn sets(&self, masked: &Masked) -> Sets {
        let node = |index: u32| self.cohort[index as usize].node;
        Sets::new(
            self.n(),
            |index| masked.key(node(index)).is_some(),
            |index| masked.survivors.contains(&node(index)),
        )
    }

    /// Every secret that is needed has the threshold of holders that are `there`.
    fn check_holders(&self, sets: &Sets, there: impl Fn(u64) -> bool) -> Result<(), SecAggError> {
        if self.ring.is_none() {
            let have = self
                .cohort
                .iter()
                .filter(|advert| there(advert.node))
                .count();
            return enough(have, self.shape.threshold);
        }
        for index in (0..self.n()).filter(|index| sets.shared(*index)) {
            let near = self
                .near(index)
                .into_iter()
                .filter(|node| there(*node))
                .count();
            let own = sets.survived(index) && there(self.cohort[index as usize].node);
            enough(near + usize::from(own), self.shape.threshold)?;
        }
        Ok(())
    }

    /// Whose seeds and whose mask secrets a survivor's answer holds shares of.
    fn wanted(&self, index: u32, node: u64) -> Result<(Vec<u64>, Vec<u64>), SecAggError> {
        let sets = &self.agreed("unmask")?.sets;
        let (mut seeds, mut secrets) = (vec![node], Vec::new());
        for other in self.near(index) {
            let other_index = self.index(other)?;
            if sets.survived(other_index) {
                seeds.push(other);
            } else if sets.shared(other_index) {
                secrets.push(other);
            }
        }
        seeds.sort_unstable();
        Ok((seeds, secrets))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Step;
    use crate::tests::{Cohort, RUN, plan};
    use crate::{Profile, SecAggError, ServerRun};

    fn commits(server: &mut ServerRun) -> &mut BTreeMap<u64, [u8; 64]> {
        match server.round.as_mut().map(|round| &mut round.step) {
            Some(Step::Agreed(agreed)) => &mut agreed.commits,
            _ => panic!("the mask step has not ended"),
        }
    }

    #[test]
    fn a_second_commit_is_refused_and_the_first_one_stays() {
        let server = ServerRun::new(RUN, plan(3, &[]), 2).unwrap();
        let mut cohort = Cohort::of(3, server.with_profile(Profile::Complete { commit: true }));
        cohort.share(1, &[]).unwrap();
        cohort.mask(&[], |_| (vec![0.1; 3], 1, Vec::new())).unwrap();
        cohort.server.end_masked().unwrap();
        let request = cohort.server.commit_request().unwrap();
        let (node, client) = cohort.clients.iter_mut().next().unwrap();
        let commit = client.commit(&request).unwrap();
        cohort.server.add_commit(*node, &commit).unwrap();
        // as if that had been another valid signature: Ed25519 has many, for who holds the key
        commits(&mut cohort.server).insert(*node, [7; 64]);
        assert!(matches!(
            cohort.server.add_commit(*node, &commit),
            Err(SecAggError::AlreadyAnswered { .. })
        ));
        assert_eq!(commits(&mut cohort.server)[node], [7; 64]);
    }
}
