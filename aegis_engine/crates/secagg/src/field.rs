//! GF(p) with p = 2^61 - 1, a Mersenne prime: reduction is shift and add, without branches on secrets.

/// The modulus.
pub(crate) const P: u64 = (1 << 61) - 1;

/// Brings `x < 2p` below p without a branch on its value.
const fn once(x: u64) -> u64 {
    let (less, borrow) = x.overflowing_sub(P);
    // all ones when x < p: then p is added back
    less.wrapping_add(P & (borrow as u64).wrapping_neg())
}

/// a + b mod p, for reduced a and b.
pub(crate) const fn add(a: u64, b: u64) -> u64 {
    once(a + b)
}

/// a - b mod p, for reduced a and b.
pub(crate) const fn sub(a: u64, b: u64) -> u64 {
    once(a + P - b)
}

/// a * b mod p, for reduced a and b: 2^61 = 1, so the high part is added to the low part.
#[expect(
    clippy::cast_possible_truncation,
    reason = "both halves are below 2^61 by the shift and mask"
)]
pub(crate) const fn mul(a: u64, b: u64) -> u64 {
    let wide = a as u128 * b as u128;
    once((wide & P as u128) as u64 + (wide >> 61) as u64)
}

/// 1/a mod p by Fermat (a^(p-2)); a must not be 0. Only public x-coordinates are inverted.
pub(crate) const fn invert(a: u64) -> u64 {
    let (mut result, mut square, mut power) = (1, a, P - 2);
    while power > 0 {
        if power & 1 == 1 {
            result = mul(result, square);
        }
        square = mul(square, square);
        power >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{P, add, invert, mul, sub};
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, prop_assume, proptest};

    fn wide(x: u128) -> u64 {
        u64::try_from(x % u128::from(P)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn arithmetic_agrees_with_128_bit_integers(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (a % P, b % P);
            prop_assert_eq!(add(a, b), wide(u128::from(a) + u128::from(b)));
            prop_assert_eq!(sub(a, b), wide(u128::from(a) + u128::from(P) - u128::from(b)));
            prop_assert_eq!(mul(a, b), wide(u128::from(a) * u128::from(b)));
        }

        #[test]
        fn inverse_times_itself_is_one(a in any::<u64>()) {
            prop_assume!(a % P != 0);
            prop_assert_eq!(mul(a % P, invert(a % P)), 1);
        }
    }

    #[test]
    fn edges_stay_reduced() {
        for (a, b) in [(0, 0), (P - 1, P - 1), (P - 1, 1), (0, P - 1)] {
            assert!(add(a, b) < P && sub(a, b) < P && mul(a, b) < P);
        }
        assert_eq!(add(P - 1, 1), 0);
        assert_eq!(sub(0, 1), P - 1);
        assert_eq!(mul(P - 1, P - 1), 1);
    }
}
