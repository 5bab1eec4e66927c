//! Shamir sharing of raw 32-byte secrets over GF(2^61 - 1), five limbs at once.
//!
//! A secret is cut into limbs of 52, 52, 52, 52 and 48 bits (little-endian). All limbs use the same
//! x-coordinate, which is the holder's place in the sorted cohort plus one: public, distinct, never 0.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::SecAggError;
use crate::field::{self, P};
use crate::secret::Key32;

pub(crate) const LIMBS: usize = 5;
/// Length of a share on the wire.
pub(crate) const SHARE_LEN: usize = LIMBS * 8;
const LIMB_BITS: u32 = 52;
const LAST_BITS: u32 = 256 - 4 * LIMB_BITS;

/// One party's point of the five polynomials.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Share([u64; LIMBS]);

impl Share {
    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; SHARE_LEN]> {
        let mut out = Zeroizing::new([0; SHARE_LEN]);
        for (place, limb) in out.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&limb.to_le_bytes());
        }
        out
    }

    /// `None` when a limb is not a reduced field element.
    pub(crate) fn from_bytes(bytes: &[u8; SHARE_LEN]) -> Option<Self> {
        let mut limbs = [0; LIMBS];
        for (limb, place) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = u64::from_le_bytes(place.try_into().ok()?);
        }
        limbs.iter().all(|limb| *limb < P).then_some(Self(limbs))
    }
}

/// The x-coordinate of the shares of the client at a place in the cohort.
pub(crate) fn x_of(index: u32) -> u64 {
    u64::from(index) + 1
}

fn to_limbs(secret: &[u8; 32]) -> Zeroizing<[u64; LIMBS]> {
    let mut limbs = Zeroizing::new([0; LIMBS]);
    for (byte, value) in secret.iter().enumerate() {
        for bit in 0..8 {
            let place = byte * 8 + bit;
            limbs[place / LIMB_BITS as usize] |=
                u64::from(value >> bit & 1) << (place % LIMB_BITS as usize);
        }
    }
    limbs
}

fn from_limbs(limbs: &[u64; LIMBS]) -> Option<Key32> {
    let fits = limbs[..4].iter().all(|limb| limb >> LIMB_BITS == 0) && limbs[4] >> LAST_BITS == 0;
    if !fits {
        return None;
    }
    Key32::filled(|secret| {
        for place in 0..256 {
            let bit = limbs[place / LIMB_BITS as usize] >> (place % LIMB_BITS as usize) & 1;
            secret[place / 8] |= u8::from(bit == 1) << (place % 8);
        }
        Ok::<_, ()>(())
    })
    .ok()
}

/// Uniform field elements: 61 random bits, the one value equal to p drawn again.
fn random_elements(out: &mut [u64]) -> Result<(), SecAggError> {
    let mut bytes = Zeroizing::new(vec![0u8; out.len() * 8]);
    let rng = SystemRandom::new();
    let fail = |_| SecAggError::Crypto {
        what: "random polynomial",
    };
    rng.fill(&mut bytes).map_err(fail)?;
    for (element, raw) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(raw);
        *element = u64::from_le_bytes(word) & P;
        while *element == P {
            rng.fill(&mut word).map_err(fail)?;
            *element = u64::from_le_bytes(word) & P;
        }
        word.zeroize();
    }
    Ok(())
}

/// Shares for the given x, distinct and not 0; any `threshold` of them give the secret back, fewer say nothing about it.
pub(crate) fn split(
    secret: &[u8; 32],
    threshold: u32,
    xs: &[u64],
) -> Result<Vec<Share>, SecAggError> {
    let limbs = to_limbs(secret);
    let rows = threshold.saturating_sub(1) as usize;
    let mut coefficients = Zeroizing::new(vec![0u64; rows * LIMBS]);
    random_elements(&mut coefficients)?;
    Ok(xs
        .iter()
        .map(|&x| {
            let mut point = [0; LIMBS];
            // Horner, highest coefficient first; the secret is the constant term
            for row in coefficients.chunks_exact(LIMBS).rev() {
                for (value, coefficient) in point.iter_mut().zip(row) {
                    *value = field::add(field::mul(*value, x), *coefficient);
                }
            }
            for (value, limb) in point.iter_mut().zip(limbs.iter()) {
                *value = field::add(field::mul(*value, x), *limb);
            }
            Share(point)
        })
        .collect())
}

/// Lagrange weights at 0 for distinct nonzero x; computed once for a set of responders, used for every secret.
pub(crate) fn weights(xs: &[u64]) -> Vec<u64> {
    weights_at(0, xs)
}

fn weights_at(at: u64, xs: &[u64]) -> Vec<u64> {
    xs.iter()
        .map(|&x| {
            let (mut above, mut below) = (1, 1);
            for &other in xs.iter().filter(|&&other| other != x) {
                above = field::mul(above, field::sub(other, at));
                below = field::mul(below, field::sub(other, x));
            }
            field::mul(above, field::invert(below))
        })
        .collect()
}

/// The secret behind the shares; `None` when they do not belong together and a limb leaves its range. Shares wrong by chance
/// stay in range with probability about 2^-49; chosen ones can, so what a secret is for must be checked too.
pub(crate) fn combine<'a>(
    weights: &[u64],
    shares: impl Iterator<Item = &'a Share>,
) -> Option<Key32> {
    from_limbs(&weighted(weights, shares).0)
}

/// Whether a share at `x` is of the polynomials that the shares at `xs` are of.
pub(crate) fn belongs<'a>(
    (x, share): (u64, &Share),
    xs: &[u64],
    shares: impl Iterator<Item = &'a Share>,
) -> bool {
    weighted(&weights_at(x, xs), shares) == *share
}

fn weighted<'a>(weights: &[u64], shares: impl Iterator<Item = &'a Share>) -> Share {
    let mut limbs = Share([0; LIMBS]);
    for (weight, share) in weights.iter().zip(shares) {
        for (limb, value) in limbs.0.iter_mut().zip(&share.0) {
            *limb = field::add(*limb, field::mul(*weight, *value));
        }
    }
    limbs
}

#[cfg(test)]
mod tests {
    use super::{Share, combine, split, weights};
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::subsequence;

    fn cohort() -> impl Strategy<Value = (u32, u32, Vec<u64>)> {
        (1u32..20)
            .prop_flat_map(|n| (Just(n), 1..=n))
            .prop_flat_map(|(n, t)| {
                let all: Vec<u64> = (1..=u64::from(n)).collect();
                (Just(n), Just(t), subsequence(all, t as usize..=n as usize))
            })
    }

    proptest! {
        #[test]
        fn any_t_shares_give_the_secret_back(secret in any::<[u8; 32]>(), (n, t, xs) in cohort()) {
            let shares = split(&secret, t, &(1..=u64::from(n)).collect::<Vec<_>>()).unwrap();
            let chosen = xs.iter().map(|x| &shares[usize::try_from(*x).unwrap() - 1]);
            prop_assert_eq!(*combine(&weights(&xs), chosen).unwrap(), secret);
        }

        #[test]
        fn a_wrong_share_never_gives_the_secret(secret in any::<[u8; 32]>(), (n, t, xs) in cohort()) {
            let mut shares = split(&secret, t, &(1..=u64::from(n)).collect::<Vec<_>>()).unwrap();
            let first = usize::try_from(xs[0]).unwrap() - 1;
            shares[first].0[0] = crate::field::add(shares[first].0[0], 1);
            let chosen = xs.iter().map(|x| &shares[usize::try_from(*x).unwrap() - 1]);
            prop_assert!(combine(&weights(&xs), chosen).is_none_or(|found| *found != secret));
        }
    }

    #[test]
    fn fewer_than_t_shares_do_not_give_the_secret() {
        let secret = [7; 32];
        let shares = split(&secret, 5, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let found = combine(&weights(&[1, 2, 3, 4]), shares[..4].iter());
        assert!(found.is_none_or(|found| *found != secret));
    }

    #[test]
    fn the_same_secret_is_never_shared_by_the_same_polynomial() {
        let (one, two) = (
            split(&[1; 32], 3, &[1, 2, 3, 4]).unwrap(),
            split(&[1; 32], 3, &[1, 2, 3, 4]).unwrap(),
        );
        assert!(one.iter().zip(&two).all(|(a, b)| a != b));
    }

    #[test]
    fn an_unreduced_share_is_refused() {
        assert!(Share::from_bytes(&[255; 40]).is_none());
        let share = &split(&[9; 32], 2, &[1, 2]).unwrap()[0];
        assert!(Share::from_bytes(&share.to_bytes()).is_some_and(|again| again == *share));
    }
}
