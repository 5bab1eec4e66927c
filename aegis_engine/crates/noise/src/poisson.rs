//! Poisson sampling: the batch that privacy amplification speaks of.

use chacha20::rand_core::Rng as _;

use crate::error::NoiseError;
use crate::rng::Rng;

/// The rows of `0..n` that a Poisson sample with probability `q` takes, in ascending order; often none.
///
/// Each row is in independently of all others, when 64 fresh random bits are below ⌊q·2^64⌋: the probability is
/// never above `q` and less than 2^-64 below it. The size of the batch is Binomial(n, q), never a constant.
pub fn poisson_rows(rng: &mut Rng, n: u64, q: f64) -> Result<Vec<u32>, NoiseError> {
    let threshold = threshold(q)?;
    if n > 1 << 32 {
        return Err(NoiseError::TooManyRows { n });
    }
    let stream = rng.stream()?;
    let mut rows = Vec::with_capacity(likely_size(n, q));
    for row in 0..n {
        if u128::from(stream.next_u64()) < threshold {
            rows.push(u32::try_from(row).map_err(|_| NoiseError::TooManyRows { n })?);
        }
    }
    Ok(rows)
}

/// ⌊q·2^64⌋; 2^64 itself for `q` = 1, so that every row is in.
fn threshold(q: f64) -> Result<u128, NoiseError> {
    if !(0.0..=1.0).contains(&q) {
        return Err(NoiseError::BadProbability { q });
    }
    // Scaling by a power of two is exact, and the conversion rounds towards zero.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "0 <= q <= 1"
    )]
    Ok((q * (1_u128 << 64) as f64) as u128)
}

/// Room for the mean and six standard deviations, so that a batch is allocated once.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
fn likely_size(n: u64, q: f64) -> usize {
    let mean = n as f64 * q;
    (mean + 6.0 * mean.sqrt()).min(n as f64) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_exact_at_the_edges_and_never_above_q() {
        assert_eq!(threshold(0.0), Ok(0));
        assert_eq!(threshold(1.0), Ok(1 << 64));
        assert_eq!(threshold(0.5), Ok(1 << 63));
        assert_eq!(threshold(2.0_f64.powi(-64)), Ok(1));
        assert_eq!(threshold(2.0_f64.powi(-65)), Ok(0));
        assert_eq!(
            threshold(1.0 - f64::EPSILON / 2.0),
            Ok((1 << 64) - (1 << 11))
        );
        assert_eq!(threshold(f64::MIN_POSITIVE), Ok(0));
    }

    #[test]
    fn each_row_is_decided_by_64_bits_of_its_own() {
        use chacha20::rand_core::Rng as _;
        for q in [0.01, 0.3, 1.0 - 1e-12] {
            let mut words = Rng::insecure_test(5);
            let stream = words.stream().unwrap();
            let expected: Vec<u32> = (0..2_000)
                .filter(|_| u128::from(stream.next_u64()) < threshold(q).unwrap())
                .collect();
            let drawn = poisson_rows(&mut Rng::insecure_test(5), 2_000, q).unwrap();
            assert_eq!(drawn, expected, "{q}");
        }
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for q in [-1e-300, 1.0 + f64::EPSILON, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(
                    poisson_rows(&mut Rng::insecure_test(0), 1, q),
                    Err(NoiseError::BadProbability { .. })
                ),
                "{q}"
            );
        }
        let n = (1 << 32) + 1;
        assert_eq!(
            poisson_rows(&mut Rng::insecure_test(0), n, 0.5),
            Err(NoiseError::TooManyRows { n })
        );
    }
}
