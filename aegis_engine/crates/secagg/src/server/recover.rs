//! From the survivors' answers to the masks that they stand for.

use super::{Agreed, Answer, FalseShare, Round, enough};
use crate::error::SecAggError;
use crate::keys::{self, Binding, Exchange, Position};
use crate::secret::Key32;
use crate::shamir::x_of;
use crate::shamir::{self, Share};

/// Reconstructs secrets; the weights of one set of holders are kept for the next secret, which mostly has the same.
struct Recover<'a> {
    round: &'a Round,
    agreed: &'a Agreed,
    xs: Vec<u64>,
    weights: Vec<u64>,
    /// Where among the holders to begin: past those whose shares were false.
    start: usize,
    false_shares: Vec<FalseShare>,
}

impl Recover<'_> {
    /// The secret of a client by which it is known again (`fits`), from the threshold of its shares. Where they give another,
    /// other holders take their place, so that each is left out once: with one false share among more than the threshold,
    /// the secret is found.
    fn secret(
        &mut self,
        node: u64,
        holders: &[u64],
        pick: fn(&Answer) -> &Vec<(u64, Share)>,
        fits: impl Fn(&Key32) -> Result<bool, SecAggError>,
    ) -> Result<Key32, SecAggError> {
        let need = self.round.shape.threshold as usize;
        let mut held = Vec::with_capacity(holders.len());
        for holder in holders {
            let Some(answer) = self.agreed.answers.get(holder) else {
                continue;
            };
            let list = pick(answer);
            if let Ok(place) = list.binary_search_by_key(&node, |(of, _)| *of) {
                held.push((*holder, x_of(self.round.index(*holder)?), &list[place].1));
            }
        }
        enough(held.len(), self.round.shape.threshold)?;
        let spare = held.len() - need;
        let turns = held.len().checked_div(spare).map_or(1, |turns| turns + 1);
        for turn in 0..turns {
            let turned = held.iter().cycle().skip(self.start % held.len());
            let (used, left): (Vec<_>, Vec<_>) = turned
                .take(held.len())
                .enumerate()
                .partition(|(place, _)| *place < need);
            let xs: Vec<u64> = used.iter().map(|(_, (_, x, _))| *x).collect();
            if xs != self.xs {
                self.weights = shamir::weights(&xs);
                self.xs = xs;
            }
            let shares = || used.iter().map(|(_, (_, _, share))| *share);
            if let Some(secret) = shamir::combine(&self.weights, shares())
                && fits(&secret)?
            {
                if turn > 0 {
                    for (_, (holder, x, share)) in left {
                        if !shamir::belongs((*x, share), &self.xs, shares()) {
                            let (holder, owner) = (*holder, node);
                            self.false_shares.push(FalseShare { holder, owner });
                        }
                    }
                }
                return Ok(secret);
            }
            // whom this turn leaves out, the next one uses, and the other way round, as far as they go
            self.start = (self.start + spare) % held.len();
        }
        Err(SecAggError::SharesDisagree { node })
    }
}

/// What cancels the masks that the survivors added.
pub(super) struct Removals {
    /// Keys of their self masks and of their pair masks with the dropped; each with whether it is subtracted.
    pub masks: Vec<(Key32, bool)>,
    /// Found on the way.
    pub false_shares: Vec<FalseShare>,
}

/// Reconstructs the secrets that the sum needs.
pub(super) fn removals(
    place: &Position,
    binding: Binding,
    round: &Round,
    agreed: &Agreed,
) -> Result<Removals, SecAggError> {
    let mut recover = Recover {
        round,
        agreed,
        xs: Vec::new(),
        weights: Vec::new(),
        start: 0,
        false_shares: Vec::new(),
    };
    let bound = place.bound(binding);
    let mut masks = Vec::with_capacity(agreed.masked.keys.len());
    let mut dropped = Vec::new();
    for key in &agreed.masked.keys {
        let index = round.index(key.node)?;
        let around = round.around(index);
        if agreed.sets.survived(index) {
            let check = round.replies.get(&key.node).map(|reply| reply.seed_check);
            let seed = recover.secret(
                key.node,
                &around,
                |answer| &answer.seeds,
                |seed| Ok(Some(place.seed_check(seed, key.node)?) == check),
            )?;
            masks.push((bound.self_mask_key(&seed, key.node)?, true));
        } else {
            let secret = recover.secret(
                key.node,
                &around,
                |answer| &answer.secrets,
                |secret| Ok(keys::public_key(secret)? == key.mask_key),
            )?;
            dropped.push((key.node, around, secret));
        }
    }
    // one key agreement for each survivor around each dropped client: most of the work where many are lost
    let pairs = |(node, around, secret): &(u64, Vec<u64>, Key32)| {
        let secret = Exchange::new(secret)?;
        let survivors = around
            .iter()
            .filter(|other| agreed.masked.survivors.contains(other));
        survivors
            .map(|&survivor| {
                let key = agreed
                    .masked
                    .key(survivor)
                    .ok_or(SecAggError::UnknownNode { node: survivor })?;
                let key = bound.pair_mask_key(&secret, *node, survivor, &key.mask_key)?;
                // the survivor subtracted it when its id is the higher one: the opposite takes it out again
                Ok((key, survivor < *node))
            })
            .collect::<Result<Vec<_>, SecAggError>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let died = SecAggError::Crypto {
        what: "a key agreement thread panicked",
    };
    let found: Result<Vec<Vec<_>>, _> = std::thread::scope(|scope| {
        let parts = dropped.chunks(dropped.len().div_ceil(threads).max(1));
        let workers: Vec<_> = parts
            .map(|part| scope.spawn(|| part.iter().map(pairs).collect::<Result<Vec<_>, _>>()))
            .collect();
        workers
            .into_iter()
            .map(|worker| Ok(worker.join().map_err(|_| died.clone())??.concat()))
            .collect()
    });
    masks.extend(found?.into_iter().flatten());
    Ok(Removals {
        masks,
        false_shares: recover.false_shares,
    })
}
