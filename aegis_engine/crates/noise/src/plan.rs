//! A mechanism and how often it is used, and the bounds within which the accountant is trusted.

use std::ops::RangeInclusive;

use crate::blocks::BLOCKS;
use crate::error::NoiseError;

/// Noise multipliers for which the accountant is trusted: below, its sums overflow; above, nobody trains.
pub const SIGMA: RangeInclusive<f64> = 0.05..=1e4;
/// Clips that keep sums and noise far inside what `f32` holds.
pub const CLIP: RangeInclusive<f64> = 1e-6..=1e6;
/// As [`CLIP`], of what twice the clip is the sensitivity.
const CLIP_OF_BLOCKS: RangeInclusive<f64> = 1e-6..=5e5;
/// Steps of one session.
pub const STEPS: RangeInclusive<u64> = 1..=1_000_000;
/// A mechanism and how often it is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Standard deviation of the noise, in units of the [`sensitivity`](Self::sensitivity).
    pub sigma: f64,
    /// L2 bound of one record's gradient; with `blocks`, of one block's update.
    pub clip: f64,
    /// Poisson rate.
    pub rate: f64,
    /// Steps that were reserved.
    pub steps: u64,
    /// Public divisor of each step's sum.
    pub expected_batch: f64,
    /// Coordinates of the gradient.
    pub dim: u64,
    /// Rows to draw from.
    pub rows: u64,
    /// Blocks whose updates are clipped and summed by the session; 0 where batches are drawn.
    pub blocks: u64,
}

impl Plan {
    /// How far neighbouring data move what is noised, in L2. One block's update is any vector within the clip in place of any
    /// other, so of blocks it is twice that.
    pub fn sensitivity(&self) -> f64 {
        if self.blocks > 0 {
            2.0 * self.clip
        } else {
            self.clip
        }
    }

    /// Refuses what the accountant is not trusted for. NaN lies in no range.
    pub fn check(&self) -> Result<(), NoiseError> {
        let inside = |what, value: f64, range: RangeInclusive<f64>| {
            if range.contains(&value) {
                Ok(())
            } else {
                let (least, most) = range.into_inner();
                Err(NoiseError::OutOfBounds {
                    what,
                    value,
                    least,
                    most,
                })
            }
        };
        inside("the noise multiplier", self.sigma, SIGMA)?;
        inside("the clip", self.clip, CLIP)?;
        if self.blocks > 0 {
            #[allow(clippy::cast_precision_loss, reason = "for a comparison and a text")]
            let (steps, blocks, most) =
                (self.steps as f64, self.blocks as f64, *BLOCKS.end() as f64);
            inside("the number of blocks", blocks, 1.0..=most)?;
            inside("the clip of a block", self.clip, CLIP_OF_BLOCKS)?;
            inside("the sample rate of blocks", self.rate, 1.0..=1.0)?;
            inside("the divisor of blocks", self.expected_batch, 1.0..=1.0)?;
            inside("the number of steps of blocks", steps, 1.0..=1.0)?;
        }
        inside("the sample rate", self.rate, f64::MIN_POSITIVE..=1.0)?;
        inside("the expected batch", self.expected_batch, 1.0..=1e9)?;
        #[allow(clippy::cast_precision_loss, reason = "for an error's text")]
        let count = |value: u64| value as f64;
        if !STEPS.contains(&self.steps) {
            return Err(NoiseError::OutOfBounds {
                what: "the number of steps",
                value: count(self.steps),
                least: 1.0,
                most: 1e6,
            });
        }
        if self.dim == 0 {
            return Err(NoiseError::Session {
                what: "needs a gradient of at least one coordinate: no parameter of the model is trained",
            });
        }
        if self.rows > 1 << 32 {
            return Err(NoiseError::TooManyRows { n: self.rows });
        }
        Ok(())
    }
}
