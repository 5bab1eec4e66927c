//! From the survivors' answers to the masks that they stand for.

use super::{Agreed, Answer, Round, enough};
use crate::SecAggError;
use crate::client::share::x_of;
use crate::keys::{self, Key32, Place};
use crate::shamir::{self, Share};

/// Reconstructs secrets; the weights of one set of holders are kept for the next secret, which mostly has the same.
struct Recover<'a> {
    round: &'a Round,
    agreed: &'a Agreed,
    xs: Vec<u64>,
    weights: Vec<u64>,
}

impl Recover<'_> {
    fn secret(
        &mut self,
        node: u64,
        holders: &[u64],
        pick: fn(&Answer) -> &Vec<(u64, Share)>,
    ) -> Result<Key32, SecAggError> {
        let mut shares = Vec::with_capacity(self.round.shape.threshold as usize);
        let mut xs = Vec::with_capacity(shares.capacity());
        for holder in holders {
            if xs.len() == self.round.shape.threshold as usize {
                break;
            }
            let Some(answer) = self.agreed.answers.get(holder) else {
                continue;
            };
            let list = pick(answer);
            if let Ok(place) = list.binary_search_by_key(&node, |(of, _)| *of) {
                xs.push(x_of(self.round.index(*holder)?));
                shares.push(&list[place].1);
            }
        }
        enough(xs.len(), self.round.shape.threshold)?;
        if xs != self.xs {
            self.weights = shamir::weights(&xs);
            self.xs = xs;
        }
        shamir::combine(&self.weights, shares.into_iter())
            .ok_or(SecAggError::SharesDisagree { node })
    }
}

/// The masks to add so that what the survivors added cancels: their self masks, and their pair masks with the dropped.
pub(super) fn removals(
    place: &Place,
    round: &Round,
    agreed: &Agreed,
) -> Result<Vec<(Key32, bool)>, SecAggError> {
    let mut recover = Recover {
        round,
        agreed,
        xs: Vec::new(),
        weights: Vec::new(),
    };
    let mut masks = Vec::with_capacity(agreed.masked.keys.len());
    let mut dropped = Vec::new();
    for key in &agreed.masked.keys {
        let index = round.index(key.node)?;
        let around = round.around(index);
        if agreed.sets.survived(index) {
            let seed = recover.secret(key.node, &around, |answer| &answer.seeds)?;
            masks.push((place.self_mask_key(&seed, key.node)?, true));
        } else {
            let secret = recover.secret(key.node, &around, |answer| &answer.secrets)?;
            if keys::public_key(&secret)? != key.mask_key {
                return Err(SecAggError::SharesDisagree { node: key.node });
            }
            dropped.push((key.node, around, secret));
        }
    }
    // one key agreement for each survivor around each dropped client: most of the work where many are lost
    let pairs = |(node, around, secret): &(u64, Vec<u64>, Key32)| {
        let survivors = around
            .iter()
            .filter(|other| agreed.masked.survivors.contains(other));
        survivors
            .map(|&survivor| {
                let key = agreed
                    .masked
                    .key(survivor)
                    .ok_or(SecAggError::UnknownNode { node: survivor })?;
                let key = place.pair_mask_key(secret, *node, survivor, &key.mask_key)?;
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
    Ok(masks)
}
