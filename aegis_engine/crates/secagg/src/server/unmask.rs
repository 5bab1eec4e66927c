//! The unmask step and the sum.

use std::collections::BTreeMap;

use super::{Masked, Round, ServerRun, Step, Sum, Unmask, enough};
use crate::SecAggError;
use crate::encode::Plan;
use crate::keys::{self, Key32, Place};
use crate::mask::Mask;
use crate::message::{UnmaskReply, UnmaskRequest};
use crate::shamir::{self, Share};

impl ServerRun {
    /// Ends the mask step: the request for every survivor (those whose masked input arrived). Asked again, the same.
    ///
    /// # Errors
    /// [`SecAggError::NotEnoughClients`] when fewer than the threshold or `min_clients` sent one (more may still be
    /// added), [`SecAggError::WrongStep`].
    pub fn unmask_request(&mut self) -> Result<Vec<u8>, SecAggError> {
        const STEP: &str = "unmask request";
        let (run, number, min_clients) = (self.run, self.last_round, self.min_clients);
        let round = self.current(STEP)?;
        let need = round.need(min_clients);
        let early = SecAggError::WrongStep {
            step: STEP,
            reason: "the mask step has not begun",
        };
        round.step = match std::mem::replace(&mut round.step, Step::Share) {
            Step::Masked(masked) if enough(masked.survivors.len(), need).is_ok() => {
                let dropped = masked.keys.iter().map(|key| key.node);
                Step::Unmask(Unmask {
                    dropped: dropped
                        .filter(|node| !masked.survivors.contains(node))
                        .collect(),
                    survivors: masked.survivors.iter().copied().collect(),
                    masked,
                    replies: BTreeMap::new(),
                })
            }
            other => other,
        };
        match &round.step {
            Step::Share => Err(early),
            Step::Masked(masked) => enough(masked.survivors.len(), need).and(Err(early)),
            Step::Unmask(unmask) => {
                let (survivors, dropped) = (unmask.survivors.clone(), unmask.dropped.clone());
                Ok(UnmaskRequest { survivors, dropped }.to_bytes(run, number))
            }
        }
    }

    /// The clients the unmask request goes to; empty before that step.
    pub fn survivors(&self) -> &[u64] {
        match &self.round {
            Some(Round {
                step: Step::Unmask(unmask),
                ..
            }) => &unmask.survivors,
            _ => &[],
        }
    }

    /// Takes a survivor's shares.
    ///
    /// # Errors
    /// [`SecAggError::UnknownNode`] for one that is no survivor, [`SecAggError::InconsistentSets`] for other shares
    /// than asked for, [`SecAggError::AlreadyAnswered`], [`SecAggError::WrongStep`]. The round goes on without it.
    pub fn add_unmask(&mut self, node: u64, message: &[u8]) -> Result<(), SecAggError> {
        let (header, reply) = UnmaskReply::from_bytes(message)?;
        self.check_sender("unmask", node, &header)?;
        let Step::Unmask(unmask) = &mut self.current("unmask")?.step else {
            let reason = "the unmask step has not begun";
            return Err(SecAggError::WrongStep {
                step: "unmask",
                reason,
            });
        };
        if unmask.survivors.binary_search(&node).is_err() {
            return Err(SecAggError::UnknownNode { node });
        }
        let same =
            |shares: &[(u64, Share)], nodes: &[u64]| shares.iter().map(|(node, _)| node).eq(nodes);
        if !same(&reply.seeds, &unmask.survivors) || !same(&reply.secrets, &unmask.dropped) {
            let reason = "the reply holds other shares than asked for";
            return Err(SecAggError::InconsistentSets {
                round: header.round,
                reason,
            });
        }
        if unmask.replies.contains_key(&node) {
            return Err(SecAggError::AlreadyAnswered {
                step: "unmask",
                round: header.round,
            });
        }
        unmask.replies.insert(node, reply);
        Ok(())
    }

    /// The sum of the survivors' contributions; the round is over.
    ///
    /// # Errors
    /// [`SecAggError::NotEnoughClients`] while fewer than the threshold answered (more may still be added),
    /// [`SecAggError::SharesDisagree`], [`SecAggError::ImplausibleSum`] when some client sent a false message.
    pub fn finish(&mut self) -> Result<Sum, SecAggError> {
        let (run, number) = (self.run, self.last_round);
        let round = self.current("finish")?;
        let Step::Unmask(unmask) = &round.step else {
            let reason = "the unmask step has not begun";
            return Err(SecAggError::WrongStep {
                step: "finish",
                reason,
            });
        };
        enough(unmask.replies.len(), round.threshold)?;
        let place = Place {
            run,
            round: number,
            transcript: unmask.masked.transcript,
        };
        let masks = removals(&place, round, unmask)?;

        // nothing is taken out of the round before all secrets are known, so a failure above loses nothing
        let Some(Round {
            step: Step::Unmask(Unmask {
                masked, survivors, ..
            }),
            ..
        }) = self.round.take()
        else {
            let reason = "no round is in progress; begin one";
            return Err(SecAggError::WrongStep {
                step: "finish",
                reason,
            });
        };
        let Masked { mut sum, .. } = masked;
        sum.apply(&masks)?;
        decode(&self.plan, sum.into_integers(), survivors)
    }
}

/// The masks to add so that what the survivors added cancels: their self masks, and their pair masks with the dropped.
fn removals(place: &Place, round: &Round, unmask: &Unmask) -> Result<Vec<Mask>, SecAggError> {
    let answers: Vec<&UnmaskReply> = unmask
        .replies
        .values()
        .take(round.threshold as usize)
        .collect();
    let x_of = |node: &u64| {
        round
            .cohort
            .binary_search_by_key(node, |a| a.node)
            .ok()
            .map(|x| x as u64 + 1)
    };
    let xs: Vec<u64> = unmask
        .replies
        .keys()
        .take(answers.len())
        .filter_map(x_of)
        .collect();
    let weights = shamir::weights(&xs);
    let recover = |node: u64, pick: &dyn Fn(&UnmaskReply) -> Option<&Share>| {
        let shares = answers.iter().filter_map(|reply| pick(reply));
        shamir::combine(&weights, shares).ok_or(SecAggError::SharesDisagree { node })
    };

    let (survivors, dropped) = (&unmask.survivors, &unmask.dropped);
    let mut masks = Vec::with_capacity(survivors.len() * (1 + dropped.len()));
    for (place_in_list, &node) in survivors.iter().enumerate() {
        let seed = recover(node, &|reply| {
            reply.seeds.get(place_in_list).map(|(_, share)| share)
        })?;
        masks.push(Mask::new(&place.self_mask_key(&seed, node)?, true)?);
    }
    let key_of = |node: u64| {
        let keys = &unmask.masked.keys;
        let found = keys.binary_search_by_key(&node, |key| key.node);
        found
            .map(|place| &keys[place].mask_key)
            .map_err(|_| SecAggError::UnknownNode { node })
    };
    for (place_in_list, &node) in dropped.iter().enumerate() {
        let secret: Key32 = recover(node, &|reply| {
            reply.secrets.get(place_in_list).map(|(_, share)| share)
        })?;
        if keys::public_key(&secret)? != *key_of(node)? {
            return Err(SecAggError::SharesDisagree { node });
        }
        for &survivor in survivors {
            let key = place.pair_mask_key(&secret, node, survivor, key_of(survivor)?)?;
            // the survivor subtracted it when its id is the higher one: the opposite takes it out again
            masks.push(Mask::new(&key, survivor < node)?);
        }
    }
    Ok(masks)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the mean is a float; the exact integers are given too"
)]
fn decode(plan: &Plan, integers: Vec<i64>, contributors: Vec<u64>) -> Result<Sum, SecAggError> {
    let n = contributors.len() as u128;
    let implausible = |reason| Err(SecAggError::ImplausibleSum { reason });
    let (values, tail) = integers.split_at(integers.len() - 1 - plan.metrics.len());
    let (weight, metrics) = (tail[0], &tail[1..]);
    let Some(weight) = u64::try_from(weight).ok().filter(|weight| {
        (n..=n * u128::from(plan.encoding.weight_max)).contains(&u128::from(*weight))
    }) else {
        return implausible("the weight is out of range");
    };
    let most = u128::from(plan.encoding.steps()) * u128::from(weight);
    if values
        .iter()
        .any(|value| u128::from(value.unsigned_abs()) > most)
    {
        return implausible("a value is out of range");
    }
    let most = n * u128::from(plan.encoding.metric_max);
    if metrics
        .iter()
        .any(|value| u128::from(value.unsigned_abs()) > most)
    {
        return implausible("a metric is out of range");
    }
    let step = 1.0 / (plan.encoding.scale() * weight as f64);
    Ok(Sum {
        mean: values.iter().map(|value| *value as f64 * step).collect(),
        metrics: plan
            .metrics
            .iter()
            .cloned()
            .zip(metrics.iter().copied())
            .collect(),
        weight,
        contributors,
        integers,
    })
}
