//! The norm of a vector and the bound on it.

/// Partial sums side by side: they vectorise, and the error grows with n/4096 instead of n.
const LANES: usize = 8;
const BLOCK: usize = 4096;

/// The L2 norm in `f64`. Squares of `f32` are exact in `f64` and cannot overflow it. NaN or infinite when a value is.
pub fn l2_norm(values: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let block = |block: &[f32]| {
        let lanes = block.chunks_exact(LANES);
        let rest: f64 = lanes.remainder().iter().copied().map(square).sum();
        let sums = lanes.fold([0.0; LANES], |mut sums, chunk| {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += square(*value);
            }
            sums
        });
        sums.iter().sum::<f64>() + rest
    };
    values.chunks(BLOCK).map(block).sum::<f64>().sqrt()
}

/// Scales `values` down to an L2 norm of at most `max`; returns the norm it had.
///
/// The bound holds for the result as it is stored: [`l2_norm`] of it, and its sum of squares in any order of
/// addition, stay at or below `max`. A factor computed in `f32` and rounded to the nearest can exceed it, and the
/// sensitivity with it. A vector within the bound is left as it is. A vector with a NaN or an infinity, or a `max` that
/// is not a positive number, gives zeros: a gradient that broke contributes nothing rather than anything. The returned
/// norm tells.
pub fn clip_l2(values: &mut [f32], max: f64) -> f64 {
    let norm = l2_norm(values);
    if norm <= max {
        return norm;
    }
    let mut factor = max / norm;
    if !(norm.is_finite() && max > 0.0) {
        factor = 0.0;
    }
    // One part in 10^12 below: more than the rounding of the sums of 10^7 squares, in whatever order.
    scale(values, factor * (1.0 - 2.0_f64.powi(-40)));
    // By the argument above this does not happen. The promise is checked all the same, and kept.
    while !within(values, max) {
        scale(values, 1.0 - 2.0_f64.powi(-20));
    }
    norm
}

/// Zeros are within any bound: also within one that is no number.
fn within(values: &[f32], max: f64) -> bool {
    l2_norm(values) <= max || values.iter().all(|value| *value == 0.0)
}

fn scale(values: &mut [f32], factor: f64) {
    for value in values {
        *value = if factor == 0.0 {
            0.0
        } else {
            toward_zero(f64::from(*value) * factor)
        };
    }
}

/// The next `f32` that is no larger in magnitude: rounding to the nearest could push a norm over its bound.
fn toward_zero(x: f64) -> f32 {
    #[allow(clippy::cast_possible_truncation, reason = "rounds, then is put right")]
    let nearest = x as f32;
    // For a float other than zero the bits below it are those of its neighbour towards zero.
    if f64::from(nearest).abs() > x.abs() {
        f32::from_bits(nearest.to_bits() - 1)
    } else {
        nearest
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    reason = "exact values are meant"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of all magnitudes an `f32` has.
    fn vectors() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![
            prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
            -1.0_f32..1.0
        ];
        prop::collection::vec(value, 0..300)
    }

    proptest! {
        #[test]
        fn the_norm_of_the_result_is_within_the_bound_in_any_order(mut values in vectors(), exponent in -60.0_f64..60.0) {
            let max = exponent.exp2();
            let before = values.clone();
            let norm = clip_l2(&mut values, max);
            prop_assert_eq!(norm.to_bits(), l2_norm(&before).to_bits());
            prop_assert!(l2_norm(&values) <= max);
            let squares = values.iter().map(|value| f64::from(*value).powi(2));
            if norm > max {
                prop_assert!(squares.clone().sum::<f64>().sqrt() <= max);
                prop_assert!(squares.rev().sum::<f64>().sqrt() <= max);
            } else {
                prop_assert_eq!(&values, &before, "within the bound nothing changes");
            }
        }

        #[test]
        fn clipping_keeps_the_direction_and_nearly_the_bound(mut values in prop::collection::vec(0.1_f32..1.0, 1..300), max in 1e-3_f64..0.09) {
            let before = values.clone();
            let norm = clip_l2(&mut values, max);
            prop_assert!(l2_norm(&values) >= max * (1.0 - 1e-6));
            for (after, before) in values.iter().zip(before) {
                let expected = f64::from(before) * max / norm;
                prop_assert!((f64::from(*after) - expected).abs() <= expected * 2e-7);
            }
        }
    }

    #[test]
    fn the_norm_agrees_with_known_ones() {
        assert!(l2_norm(&[]).abs() < f64::EPSILON);
        assert!((l2_norm(&[3.0, -4.0]) - 5.0).abs() < f64::EPSILON);
        assert!((l2_norm(&vec![0.5; 1_000_000]) - 500.0).abs() < 1e-9);
        assert!((l2_norm(&[f32::MAX; 4]) / f64::from(f32::MAX) - 2.0).abs() < f64::EPSILON);
        assert!(l2_norm(&[f32::from_bits(1)]) > 0.0);
    }

    #[test]
    fn broken_vectors_and_bounds_contribute_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0, bad, -2.0];
            assert!(!clip_l2(&mut values, 1.0).is_finite());
            assert_eq!(values, [0.0; 3]);
        }
        for max in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let mut values = [3.0, 4.0];
            assert!((clip_l2(&mut values, max) - 5.0).abs() < f64::EPSILON);
            assert_eq!(values, [0.0; 2]);
        }
    }

    #[test]
    fn a_large_vector_stays_within_the_bound() {
        let mut values: Vec<f32> = (0..3_000_000_u32)
            .map(|i| (f64::from(i) * 0.37).sin() as f32)
            .collect();
        clip_l2(&mut values, 1.0);
        let naive: f64 = values
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(naive <= 1.0 && naive > 1.0 - 1e-6, "{naive}");
    }
}
