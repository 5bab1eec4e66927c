//! Sample and aggregate: the sum of updates of blocks of people, each clipped here, exact, and never told without noise.
//!
//! A block whose update is missing counts as zero, and how many came is not told: neither by an accessor nor by `Debug`.

use std::fmt;
use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use crate::clip::clip_l2;
use crate::error::NoiseError;

/// Blocks of one session.
pub const BLOCKS: RangeInclusive<u64> = 1..=1 << 16;
/// Steps that a clip holds, at least: 2^30. So 2^16 blocks sum to less than 2^47 steps, and a sum is a whole `f64`.
const STEP_BITS: i32 = 30;

/// The sum of clipped updates, in whole steps: it is the same in whatever order blocks come, and one block moves it by what it
/// adds, to the bit.
pub(crate) struct BlockSum {
    sums: Zeroizing<Vec<i64>>,
    step: f64,
    clip: f64,
    most: u64,
    added: u64,
}

impl fmt::Debug for BlockSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockSum({} values)", self.sums.len())
    }
}

impl BlockSum {
    /// Zeros, for at most `most` blocks. A clip that is no positive normal number lets nothing in.
    pub(crate) fn new(dim: u64, clip: f64, most: u64) -> Result<Self, NoiseError> {
        let dim = usize::try_from(dim).map_err(|_| NoiseError::Session {
            what: "needs a vector that fits into memory",
        })?;
        let exponent = f64::from_bits(clip.to_bits() & (0x7ff << 52));
        Ok(Self {
            sums: Zeroizing::new(vec![0; dim]),
            step: exponent * 2.0_f64.powi(-STEP_BITS),
            clip,
            most,
            added: 0,
        })
    }

    /// Adds the update of one block, scaled to an L2 norm of at most the clip; zeros in place of one that is not finite.
    ///
    /// # Errors
    /// It is of another dimension, or one more than there may be. Nothing was added.
    pub(crate) fn add(&mut self, update: &[f32]) -> Result<(), NoiseError> {
        if update.len() != self.sums.len() {
            return Err(NoiseError::Session {
                what: "was given a block's update of another dimension",
            });
        }
        if self.added >= self.most {
            return Err(NoiseError::Session {
                what: "was given more blocks than its mechanism has",
            });
        }
        let mut clipped = Zeroizing::new(update.to_vec());
        clip_l2(&mut clipped, self.clip);
        for (sum, value) in self.sums.iter_mut().zip(clipped.iter()) {
            // Cut towards zero, so that the norm stays within the clip; |value| is below 2^31 steps.
            #[allow(
                clippy::cast_possible_truncation,
                reason = "cut on purpose, and in range"
            )]
            let steps = (f64::from(*value) / self.step) as i64;
            *sum += steps;
        }
        self.added += 1;
        Ok(())
    }

    /// The sum, as the noise takes it.
    pub(crate) fn total(&self) -> Zeroizing<Vec<f64>> {
        #[allow(clippy::cast_precision_loss, reason = "below 2^53 by the bounds above")]
        let whole = |steps: &i64| *steps as f64 * self.step;
        Zeroizing::new(self.sums.iter().map(whole).collect())
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact values are meant")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused<T>(made: &Result<T, NoiseError>) -> bool {
        matches!(made, Err(NoiseError::Session { .. }))
    }

    fn distance(a: &BlockSum, b: &BlockSum) -> f64 {
        let (a, b) = (a.total(), b.total());
        a.iter()
            .zip(b.iter())
            .map(|(x, y)| (x - y).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    fn summed(blocks: &[Vec<f32>], clip: f64) -> BlockSum {
        let mut sum = BlockSum::new(3, clip, 64).unwrap();
        for block in blocks {
            sum.add(block).unwrap();
        }
        sum
    }

    fn update() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![
            prop::num::f32::ANY,
            -2.0_f32..2.0,
            Just(f32::MAX),
            Just(f32::NAN),
            Just(f32::NEG_INFINITY)
        ];
        prop::collection::vec(value, 3)
    }

    proptest! {
        /// Whatever one block gives, or if it gives nothing, the sum moves by twice the clip at most; by the clip if it gave nothing.
        #[test]
        fn one_block_moves_the_sum_by_twice_the_clip_at_most(
            others in prop::collection::vec(update(), 0..20), one in update(), other in update(), exponent in -18.0_f64..18.0,
        ) {
            let clip = exponent.exp2();
            let with = |more: &[f32]| {
                let mut all = others.clone();
                all.insert(all.len() / 2, more.to_vec());
                summed(&all, clip)
            };
            let without = summed(&others, clip);
            prop_assert!(distance(&with(&one), &with(&other)) <= 2.0 * clip);
            prop_assert!(distance(&with(&one), &without) <= clip);
        }

        #[test]
        fn the_order_of_the_blocks_changes_no_bit(mut blocks in prop::collection::vec(update(), 0..20)) {
            let first = summed(&blocks, 0.3);
            blocks.reverse();
            prop_assert_eq!(&*first.total(), &*summed(&blocks, 0.3).total());
        }
    }

    #[test]
    fn the_most_blocks_of_the_longest_updates_are_summed_exactly() {
        let mut sum = BlockSum::new(1, 1.999_999_9, *BLOCKS.end()).unwrap();
        for _ in 0..*BLOCKS.end() {
            sum.add(&[f32::MAX]).unwrap();
        }
        let one = sum.total()[0] / 65_536.0;
        assert!(one <= 1.999_999_9 && one > 1.999_999_8, "{one}");
        assert!(refused(&sum.add(&[1.0])), "one more than there may be");
    }
}
