//! Gaussian noise on a grid.

use rand_distr::{Distribution, StandardNormal};

use crate::error::NoiseError;
use crate::rng::Rng;

/// Grid points a standard deviation holds, at least: 2^20. Rounding adds grid²/12 to the variance, less than 2^-43 of it.
const GRID_BITS: i32 = 20;
/// Far outside what training needs, and far inside what `f32` can hold with its grid.
const SIGMAS: std::ops::RangeInclusive<f64> = (1.0 / TWO_100)..=TWO_100;
#[allow(clippy::cast_precision_loss, reason = "powers of two are exact")]
const TWO_100: f64 = (1_u128 << 100) as f64;

/// The grid of the noise with this standard deviation: 2^(⌊log2 sigma⌋ - 20).
pub fn grid(sigma: f64) -> Result<f64, NoiseError> {
    if !SIGMAS.contains(&sigma) {
        return Err(NoiseError::BadSigma { sigma });
    }
    // The exponent of a normal float is ⌊log2⌋ without the rounding of a logarithm.
    let floor = f64::from_bits(sigma.to_bits() & (0x7ff << 52));
    Ok(floor * 2.0_f64.powi(-GRID_BITS))
}

/// Fills `out` with independent samples of N(0, sigma²), each rounded to a multiple of [`grid`]`(sigma)`.
///
/// `sigma` is the standard deviation (noise multiplier times sensitivity), in the unit of `out`. Source: ziggurat
/// (Marsaglia and Tsang 2000, in the variant of Doornik 2005) on 52 random bits, in `f64`.
pub fn gaussian(rng: &mut Rng, out: &mut [f32], sigma: f64) -> Result<(), NoiseError> {
    draw(rng, out, sigma, |_, noise| round(noise))
}

/// Adds noise as [`gaussian`] draws it, and rounds the *sums* to the grid: this is what to release.
///
/// `value + noise` in floating point is not on a grid even when the noise is, and its low-order bits can tell which
/// value was there. Rounding the sum of the value and the unrounded sample is post-processing, so it costs no privacy;
/// rounding the value first would widen its sensitivity.
pub fn add_gaussian(rng: &mut Rng, values: &mut [f32], sigma: f64) -> Result<(), NoiseError> {
    let grid = grid(sigma)?;
    draw(rng, values, sigma, |value, noise| {
        round(f64::from(value) / grid + noise)
    })
}

/// [`add_gaussian`] for sums in `f64`: what one record can move is then the clip itself, not the clip and the rounding of a
/// long sum in `f32`.
pub(crate) fn noised(rng: &mut Rng, sums: &[f64], sigma: f64) -> Result<Vec<f32>, NoiseError> {
    let grid = grid(sigma)?;
    let steps = sigma / grid;
    let stream = rng.stream()?;
    let one = |sum: &f64| {
        let sample: f64 = StandardNormal.sample(stream);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "rounding to f32 comes after the noise: post-processing"
        )]
        let released = (round(sum / grid + sample * steps) * grid) as f32;
        released
    };
    Ok(sums.iter().map(one).collect())
}

/// Replaces each value by the step of the grid that `step` chooses from it and a sample counted in steps.
fn draw(
    rng: &mut Rng,
    values: &mut [f32],
    sigma: f64,
    step: impl Fn(f32, f64) -> f64,
) -> Result<(), NoiseError> {
    let grid = grid(sigma)?;
    let steps = sigma / grid;
    let stream = rng.stream()?;
    for value in values {
        let sample: f64 = StandardNormal.sample(stream);
        // Up to 8 sigma the count of steps fits the 24 bits of an f32; beyond (probability 1e-15) it is rounded to
        // an even count, which is on the grid as well.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the bounds of sigma keep it in range"
        )]
        {
            *value = (step(*value, sample * steps) * grid) as f32;
        }
    }
    Ok(())
}

/// To the nearest integer. Floats of 2^52 and more are integers, so adding and taking away 1.5·2^52 rounds below
/// 2^51, in two instructions where the baseline x86-64 has none; what is larger is beyond the 24 bits of `f32` anyway.
#[inline]
#[allow(clippy::cast_precision_loss, reason = "powers of two are exact")]
fn round(x: f64) -> f64 {
    const MAGIC: f64 = 1.5 * (1_u64 << 52) as f64;
    if x.abs() < (1_u64 << 51) as f64 {
        (x + MAGIC) - MAGIC
    } else {
        x.round()
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    reason = "exact values are meant"
)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_a_power_of_two_below_sigma() {
        for (sigma, log2) in [
            (1.0, -20),
            (1.999, -20),
            (2.0, -19),
            (0.75, -21),
            (TWO_100, 80),
            (1.0 / TWO_100, -120),
        ] {
            assert_eq!(grid(sigma), Ok(2.0_f64.powi(log2)), "{sigma}");
        }
    }

    #[test]
    fn a_sigma_that_protects_nobody_is_refused_and_nothing_is_written() {
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-40, 1e40] {
            let mut values = [1.0, 2.0];
            let mut rng = Rng::insecure_test(0);
            assert!(
                matches!(
                    gaussian(&mut rng, &mut values, sigma),
                    Err(NoiseError::BadSigma { .. })
                ),
                "{sigma}"
            );
            assert!(
                matches!(
                    add_gaussian(&mut rng, &mut values, sigma),
                    Err(NoiseError::BadSigma { .. })
                ),
                "{sigma}"
            );
            assert_eq!(values, [1.0, 2.0]);
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_even() {
        for (x, rounded) in [
            (0.4, 0.0),
            (-0.6, -1.0),
            (2.5, 2.0),
            (3.5, 4.0),
            (-1e6 - 0.25, -1e6),
            (1e18, 1e18),
            (-1e300, -1e300),
        ] {
            assert_eq!(round(x).to_bits() << 1, f64::to_bits(rounded) << 1, "{x}");
        }
        assert!(round(f64::NAN).is_nan());
    }
}
