//! From floats to integers that can be summed exactly, and back.

use crate::error::SecAggError;
use crate::plan::Plan;
use crate::ring::Lane;

/// A checked contribution, encoded piece by piece without a copy of the update.
pub(crate) struct Encoder<'a> {
    update: &'a [f32],
    tail: Vec<i64>,
    weight: i64,
    clip: f64,
    scale: f64,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(
        update: &'a [f32],
        weight: u64,
        metrics: &[i64],
        plan: &Plan,
    ) -> Result<Self, SecAggError> {
        let bad = |reason| Err(SecAggError::BadUpdate { reason });
        plan.width()?;
        if update.len() as u64 != plan.dim {
            return bad("its length differs from the plan's dim");
        }
        if metrics.len() != plan.metrics.len() {
            return bad("one value is needed for each metric of the plan");
        }
        // a plain fold, so that the loop stays vector code; an early exit would not pay
        if !update.iter().fold(true, |all, x| all & x.is_finite()) {
            return bad("a value is not finite");
        }
        // Numbers saturate: a refusal would tell whoever chose the bound that a value is beyond it. The width check above
        // bounds weight_max and metric_max below 2^63.
        let weight = i64::try_from(weight.clamp(1, plan.encoding.weight_max)).unwrap_or(i64::MAX);
        let most = i64::try_from(plan.encoding.metric_max).unwrap_or(i64::MAX);
        let digits = plan.digits()?;
        let metrics = metrics.iter().map(|metric| (*metric).clamp(-most, most));
        let tail = std::iter::once(weight)
            .chain(metrics.flat_map(|metric| digits.split(metric)))
            .collect();
        let (clip, scale) = (plan.encoding.clip, plan.encoding.scale());
        Ok(Self {
            update,
            tail,
            weight,
            clip,
            scale,
        })
    }

    /// Writes elements `start..start + out.len()`.
    pub(crate) fn fill<L: Lane>(&self, start: usize, out: &mut [L]) {
        let values = self.update.get(start..).unwrap_or_default();
        let values = &values[..values.len().min(out.len())];
        let (body, rest) = out.split_at_mut(values.len());
        for (lane, x) in body.iter_mut().zip(values) {
            let clamped = f64::from(*x).clamp(-self.clip, self.clip);
            *lane = L::from_i64(round(clamped * self.scale).wrapping_mul(self.weight));
        }
        let offset = (start + body.len()).saturating_sub(self.update.len());
        for (lane, value) in rest.iter_mut().zip(self.tail.iter().skip(offset)) {
            *lane = L::from_i64(*value);
        }
    }
}

/// Nearest integer, ties to even, for |x| < 2^51: adding 1.5 * 2^52 leaves the integer in the low bits
/// of the significand. Baseline x86-64 has no rounding instruction; this one is an add.
fn round(x: f64) -> i64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    (x + MAGIC)
        .to_bits()
        .wrapping_sub(MAGIC.to_bits())
        .cast_signed()
}

/// The plain integers of one contribution, in the order of the masked vector: values times weight, the weight,
/// the digits of the metrics. For checks against the plain integer sum; it is never sent.
///
/// # Errors
/// [`SecAggError::BadUpdate`] for a wrong length or a value that is not finite;
/// plan errors as in [`Plan::width`].
pub fn encode(
    update: &[f32],
    weight: u64,
    metrics: &[i64],
    plan: &Plan,
) -> Result<Vec<i64>, SecAggError> {
    let encoder = Encoder::new(update, weight, metrics, plan)?;
    let mut lanes = vec![0u64; plan.len()?];
    encoder.fill(0, &mut lanes);
    Ok(lanes.into_iter().map(u64::cast_signed).collect())
}

#[cfg(test)]
mod tests {
    use super::{Plan, encode, round};
    use crate::error::SecAggError;
    use crate::plan::{Digits, Encoding};
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn plan(value_bits: u8, weight_max: u64) -> Plan {
        let encoding = Encoding {
            clip: 0.5,
            value_bits,
            weight_max,
            metric_max: 1000,
        };
        Plan {
            dim: 4,
            metrics: vec!["loss".into()],
            encoding,
            n_max: 100,
        }
    }

    #[test]
    fn the_ring_is_the_smallest_whole_bytes_that_never_wrap() {
        let width = |q, n| plan(q, 1).encoding.width(n).unwrap().bits();
        assert_eq!(width(16, 100), 24);
        assert_eq!(width(16, 1000), 32);
        assert_eq!(width(8, 32), 16);
        // 2^15 - 1 = 32767 steps: exactly one contribution fits 16 bits, two do not
        assert_eq!(width(16, 1), 16);
        assert_eq!(width(16, 2), 24);
        assert!(matches!(
            plan(30, u64::MAX).width(),
            Err(SecAggError::EncodingDoesNotFit { clients: 100 })
        ));
    }

    #[test]
    fn values_are_clamped_weighted_and_followed_by_weight_and_metrics() {
        let found = encode(&[0.5, -9.0, 0.0, 0.25], 3, &[-7], &plan(8, 10)).unwrap();
        assert_eq!(found, [381, -381, 0, 192, 3, -7]); // 63.5 ties to 64
    }

    #[test]
    fn metrics_do_not_widen_the_ring_and_their_digits_add_up() {
        let mut plan = plan(16, 1);
        plan.encoding.metric_max = (1 << 31) - 1;
        assert_eq!(plan.width().unwrap().bits(), 24);
        // 2^23 / 100 holds digits of 16 bits
        assert_eq!(plan.digits().unwrap(), Digits { bits: 16, count: 2 });
        let metric = |value| encode(&[0.0; 4], 1, &[value], &plan).unwrap()[5..].to_vec();
        assert_eq!(metric(-1), [0xffff, -1]);
        assert_eq!(metric(0x0003_0002), [2, 3]);
        plan.encoding.metric_max = (1 << 62) - 1;
        plan.n_max = 2;
        assert!(plan.digits().is_ok());
        plan.n_max = 3;
        assert!(matches!(
            plan.width(),
            Err(SecAggError::EncodingDoesNotFit { clients: 3 })
        ));
    }

    proptest! {
        #[test]
        fn digits_of_sums_are_sums_of_digits(
            values in vec(any::<i64>(), 1..100), max_bits in 0u32..57, q in 8u8..=30,
        ) {
            let max = (1i64 << max_bits) - 1;
            let mut encoding = plan(q, 1).encoding;
            encoding.metric_max = max.unsigned_abs();
            let n = values.len() as u64;
            let (digits, width) = (encoding.digits(n).unwrap(), encoding.width(n).unwrap());
            let values: Vec<i64> = values.iter().map(|v| v % (max + 1)).collect();
            let mut sums = vec![0i64; digits.count as usize];
            for value in &values {
                for (sum, digit) in sums.iter_mut().zip(digits.split(*value)) {
                    *sum += digit;
                }
            }
            prop_assert!(sums.iter().all(|sum| sum.unsigned_abs() < 1 << (width.bits() - 1)));
            prop_assert_eq!(digits.join(sums.into_iter()), Some(values.iter().sum()));
        }
    }

    #[test]
    fn weights_and_metrics_beyond_their_bounds_count_as_the_bounds() {
        let plan = plan(8, 10);
        let encoded = |weight, metric| encode(&[0.5, 0.0, 0.0, 0.0], weight, &[metric], &plan);
        for (metric, counts) in [
            (1001, 1000),
            (i64::MAX, 1000),
            (-1001, -1000),
            (i64::MIN, -1000),
        ] {
            assert_eq!(encoded(1, metric).unwrap(), [127, 0, 0, 0, 1, counts]);
        }
        for (weight, counts) in [(0, 1), (11, 10), (u64::MAX, 10)] {
            assert_eq!(
                encoded(weight, 0).unwrap(),
                [127 * counts, 0, 0, 0, counts, 0]
            );
        }
    }

    #[test]
    fn a_plan_at_its_extremes_is_refused_or_holds_its_sums() {
        let numbers = [
            0,
            1,
            2,
            255,
            u64::from(u32::MAX),
            1 << 40,
            1 << 62,
            u64::MAX,
        ];
        let clips = [
            0.0,
            -1.0,
            1e-300,
            1e-12,
            1.0,
            1e12,
            1e300,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        let mut taken = 0;
        for (clip, value_bits) in clips
            .iter()
            .flat_map(|c| [0u8, 7, 8, 30, 31, 255].map(|b| (c, b)))
        {
            for (weight_max, metric_max) in numbers.iter().flat_map(|w| numbers.map(|m| (*w, m))) {
                for n_max in [0, 1, 2, 65536, u32::MAX] {
                    let encoding = Encoding {
                        clip: *clip,
                        value_bits,
                        weight_max,
                        metric_max,
                    };
                    let plan = Plan {
                        dim: 1,
                        metrics: vec!["m".into()],
                        encoding,
                        n_max,
                    };
                    let Ok(width) = plan.width() else { continue };
                    taken += 1;
                    let most = 1i128 << (width.bits() - 1);
                    for (value, metric) in [(f32::MAX, i64::MAX), (f32::MIN, i64::MIN)] {
                        let one = encode(&[value], u64::MAX, &[metric], &plan).unwrap();
                        let n = i128::from(n_max);
                        assert!(one.iter().all(|x| (i128::from(*x) * n).abs() < most));
                    }
                }
            }
        }
        assert!(taken > 100);
    }

    #[test]
    fn what_cannot_be_encoded_is_refused() {
        let plan = plan(8, 10);
        let good = [0.0; 4];
        for (update, weight, metrics) in [
            (&good[..3], 1, &[0][..]),
            (&[0.0, f32::NAN, 0.0, 0.0], 1, &[0]),
            (&[0.0, f32::INFINITY, 0.0, 0.0], 1, &[0]),
            (&good, 1, &[]),
            (&good, 1, &[0, 0]),
        ] {
            let found = encode(update, weight, metrics, &plan);
            assert!(matches!(found, Err(SecAggError::BadUpdate { .. })));
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_ties_to_even() {
        for (x, expected) in [
            (0.5, 0),
            (1.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (2.4, 2),
            (-2.6, -3),
        ] {
            assert_eq!(round(x), expected);
        }
        assert_eq!(round(536_870_911.0), 536_870_911);
    }
}
