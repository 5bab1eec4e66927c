//! The discrete Gaussian, exactly: integer noise for counts (Canonne, Kamath and Steinke 2020, arXiv 2004.00010).
//!
//! No float takes part: probabilities are fractions of whole numbers, and each coin is an exact comparison with a uniform
//! whole number. `N_Z(0, sigma²)` added to an integer query of sensitivity D is D²/(2 sigma²)-zero-concentrated private
//! (theorem 4 there), as the continuous Gaussian is, and its Rényi divergences are no larger.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng as _;

use crate::error::NoiseError;
use crate::rng::Rng;

/// Standard deviations of integer noise: below, counts would be told as they are; above, 128 bits are not enough.
const SIGMAS: std::ops::RangeInclusive<f64> = 0.05..=1.0e11;
/// Up to here a standard deviation is kept to a part in 256 of one; beyond, to whole numbers.
const FINE: f64 = 4096.0;
const PARTS: u128 = 256;

/// A sample of `N_Z(0, s²)` with s the least fraction of 1/256 (of whole numbers beyond 4096) at or above `sigma`.
pub fn discrete_gaussian(rng: &mut Rng, sigma: f64) -> Result<i64, NoiseError> {
    if !SIGMAS.contains(&sigma) {
        return Err(NoiseError::BadSigma { sigma });
    }
    let parts = if sigma <= FINE { PARTS } else { 1 };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "within the bounds above, and rounded up"
    )]
    let s = (sigma * parts as f64).ceil() as u128;
    Ok(sample(rng.stream()?, s, parts))
}

/// Algorithm 3 of the paper for sigma = s / parts. Any whole t > 0 gives the same distribution, as e^(-|y|/t) times the
/// acceptance below is e^(-y²/(2 sigma²)) up to a constant; t near sigma accepts most often.
fn sample(stream: &mut ChaCha20Rng, s: u128, parts: u128) -> i64 {
    let t = (s / parts).max(1);
    loop {
        let (magnitude, negative) = discrete_laplace(stream, t);
        // (|y| - sigma²/t)² / (2 sigma²), both sides times (t · parts²)²; for whole sigma, where t is sigma, times sigma² alone.
        let (distance, whole) = if parts == 1 {
            (magnitude.abs_diff(s), s)
        } else {
            (
                (magnitude * t * parts * parts).abs_diff(s * s),
                t * s * parts,
            )
        };
        // Beyond 2^63 lies nothing that a lifetime of draws would meet.
        let Some(n) = distance.checked_mul(distance) else {
            continue;
        };
        let d = whole * whole;
        if bernoulli_exp(stream, n, 2 * d)
            && let Ok(value) = i64::try_from(magnitude)
        {
            return if negative { -value } else { value };
        }
    }
}

/// Algorithm 2: P(x) ∝ e^(-|x|/t). The magnitude and the sign.
fn discrete_laplace(stream: &mut ChaCha20Rng, t: u128) -> (u128, bool) {
    loop {
        let low = below(stream, t);
        if !bernoulli_exp(stream, low, t) {
            continue;
        }
        let mut high = 0;
        while bernoulli_exp(stream, 1, 1) {
            high += 1;
        }
        let magnitude = low + t * high;
        let negative = below(stream, 2) == 1;
        // Zero would else come twice as often.
        if !(negative && magnitude == 0) {
            return (magnitude, negative);
        }
    }
}

/// Algorithm 1: true with probability e^(-n/d).
fn bernoulli_exp(stream: &mut ChaCha20Rng, n: u128, d: u128) -> bool {
    for _ in 0..n / d {
        if !bernoulli_exp_small(stream, 1, 1) {
            return false;
        }
    }
    bernoulli_exp_small(stream, n % d, d)
}

/// For n/d in [0, 1]: coins of n/(d k) for k = 1, 2, ...; the first that fails comes at an odd k with probability e^(-n/d).
fn bernoulli_exp_small(stream: &mut ChaCha20Rng, n: u128, d: u128) -> bool {
    let mut k: u128 = 1;
    while below(stream, d) < n && below(stream, k) == 0 {
        k += 1;
    }
    k % 2 == 1
}

/// A uniform whole number below `n`, by rejection.
fn below(stream: &mut ChaCha20Rng, n: u128) -> u128 {
    let mask = u128::MAX >> (n - 1).leading_zeros().min(127);
    loop {
        let word = if mask <= u128::from(u64::MAX) {
            u128::from(stream.next_u64())
        } else {
            u128::from(stream.next_u64()) << 64 | u128::from(stream.next_u64())
        };
        let value = word & mask;
        if value < n {
            return value;
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "statistics of small counts"
)]
mod tests {
    use super::*;

    /// Two-sided quantile of the normal distribution at alpha 1e-6.
    const Z: f64 = 4.892;

    fn stream(rng: &mut Rng) -> &mut ChaCha20Rng {
        rng.stream().unwrap()
    }

    /// Chi-square against the probability of each value, beyond 5 sigma in one; its normal approximation (Wilson and
    /// Hilferty 1931) at alpha 1e-6.
    fn assert_fits(samples: &[i64], probability: impl Fn(i64) -> f64, reach: i64) {
        let n = samples.len() as f64;
        let cell = |x: i64| usize::try_from(x.clamp(-reach, reach) + reach).unwrap();
        let mut seen = vec![0.0; usize::try_from(2 * reach + 1).unwrap()];
        for x in samples {
            seen[cell(*x)] += 1.0;
        }
        let mut expected = vec![0.0; seen.len()];
        for x in -40 * reach..=40 * reach {
            expected[cell(x)] += probability(x);
        }
        let total: f64 = expected.iter().sum();
        let mut statistic = 0.0;
        let mut cells = 0.0;
        for (seen, p) in seen.iter().zip(&expected) {
            let e = n * p / total;
            if e >= 5.0 {
                statistic += (seen - e).powi(2) / e;
                cells += 1.0;
            }
        }
        let df = cells - 1.0;
        let z = ((statistic / df).cbrt() - (1.0 - 2.0 / (9.0 * df))) / (2.0 / (9.0 * df)).sqrt();
        assert!(z < Z, "chi-square {statistic} on {df} degrees");
    }

    #[test]
    fn samples_have_the_probabilities_of_the_discrete_gaussian() {
        for (seed, sigma) in [0.3, 1.0, 2.5, 2.667_968_75, 17.0].into_iter().enumerate() {
            let mut rng = Rng::insecure_test(seed as u64);
            let samples: Vec<_> = (0..60_000)
                .map(|_| discrete_gaussian(&mut rng, sigma).unwrap())
                .collect();
            let s = (sigma * 256.0).ceil() / 256.0;
            assert_fits(
                &samples,
                |x| (-(x as f64).powi(2) / (2.0 * s * s)).exp(),
                (5.0 * s).ceil() as i64,
            );
            let variance = samples.iter().map(|x| (*x as f64).powi(2)).sum::<f64>() / 60_000.0;
            // Corollary 9 of the paper: never more than that of the continuous Gaussian.
            assert!(
                variance < s * s * (1.0 + Z * (2.0 / 60_000.0_f64).sqrt()),
                "{variance}"
            );
        }
    }

    #[test]
    fn the_test_has_teeth() {
        let mut rng = Rng::insecure_test(9);
        let samples: Vec<_> = (0..60_000)
            .map(|_| discrete_gaussian(&mut rng, 2.5).unwrap())
            .collect();
        for wrong in [2.4_f64, 2.6] {
            let fits = || {
                assert_fits(
                    &samples,
                    |x| (-(x as f64).powi(2) / (2.0 * wrong * wrong)).exp(),
                    13,
                );
            };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(fits)).is_err());
        }
    }

    #[test]
    fn large_standard_deviations_are_right_in_moments_and_sign() {
        for (seed, sigma) in [5e3, 27_000.0, 3e6, 1e11].into_iter().enumerate() {
            let mut rng = Rng::insecure_test(seed as u64);
            let n = 20_000.0_f64;
            let samples: Vec<_> = (0..20_000)
                .map(|_| discrete_gaussian(&mut rng, sigma).unwrap() as f64 / sigma)
                .collect();
            let moment = |k| samples.iter().map(|x: &f64| x.powi(k)).sum::<f64>() / n;
            assert!(moment(1).abs() < Z / n.sqrt());
            assert!(
                (moment(2) - 1.0).abs() < Z * (2.0 / n).sqrt(),
                "{}",
                moment(2)
            );
            assert!(
                (moment(4) - 3.0).abs() < Z * (96.0 / n).sqrt(),
                "{}",
                moment(4)
            );
        }
    }

    #[test]
    fn the_discrete_laplace_has_its_probabilities() {
        let mut rng = Rng::insecure_test(3);
        let samples: Vec<_> = (0..60_000)
            .map(|_| {
                let (magnitude, negative) = discrete_laplace(stream(&mut rng), 3);
                let value = i64::try_from(magnitude).unwrap();
                if negative { -value } else { value }
            })
            .collect();
        assert_fits(&samples, |x| (-(x.abs() as f64) / 3.0).exp(), 25);
    }

    #[test]
    fn coins_have_their_exact_probability() {
        let mut rng = Rng::insecure_test(4);
        for (n, d) in [
            (0_u128, 1_u128),
            (1, 3),
            (1, 1),
            (7, 2),
            (1 << 100, 1 << 101),
        ] {
            let p = (-(n as f64) / d as f64).exp();
            let heads = (0..40_000)
                .filter(|_| bernoulli_exp(stream(&mut rng), n, d))
                .count() as f64;
            let sd = (40_000.0 * p * (1.0 - p)).sqrt();
            assert!(
                (heads - 40_000.0 * p).abs() <= Z * sd + 0.5,
                "{n}/{d}: {heads}"
            );
        }
    }

    #[test]
    fn uniform_numbers_stay_below_and_reach_the_top() {
        let mut rng = Rng::insecure_test(5);
        for n in [1_u128, 2, 3, 255, 256, 257] {
            let drawn: std::collections::BTreeSet<_> =
                (0..20_000).map(|_| below(stream(&mut rng), n)).collect();
            assert_eq!(drawn.len() as u128, n);
            assert_eq!(drawn.last().copied(), Some(n - 1));
        }
        assert!((0..100).any(|_| below(stream(&mut rng), u128::MAX) > 1 << 127));
    }

    #[test]
    fn noise_that_hides_nothing_and_noise_that_does_not_fit_are_refused() {
        for sigma in [0.0, 0.049, -1.0, 1.1e11, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                discrete_gaussian(&mut Rng::insecure_test(0), sigma),
                Err(NoiseError::BadSigma { .. })
            ));
        }
    }
}
