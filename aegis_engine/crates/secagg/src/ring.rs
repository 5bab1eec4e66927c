//! The ring of integers mod 2^b, b a multiple of 8: lanes in memory, packed little-endian on the wire.
//!
//! In memory an element is a `u32` (b <= 32) or a `u64` lane whose bits above b are not looked at:
//! arithmetic mod 2^32 or 2^64 is right mod 2^b, so one reduction at the end is enough.

/// Width of a ring element: 16 to 64 bits, a whole number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingWidth(u8);

impl RingWidth {
    pub(crate) const fn from_bytes(bytes: u8) -> Option<Self> {
        if bytes >= 2 && bytes <= 8 {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Bytes of one packed element, 2 to 8.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// Bits of one element: 16, 24, ... 64.
    pub const fn bits(self) -> u32 {
        self.0 as u32 * 8
    }
}

/// A lane that holds one ring element.
pub(crate) trait Lane: Copy + Default + Send + Sync + 'static {
    fn from_i64(value: i64) -> Self;
    fn from_u64(value: u64) -> Self;
    fn to_u64(self) -> u64;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
}

macro_rules! lane {
    ($word:ty) => {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_lossless,
            reason = "truncation is the reduction mod 2^32 or 2^64; which lints fire depends on the word"
        )]
        impl Lane for $word {
            fn from_i64(value: i64) -> Self {
                value as Self
            }
            fn from_u64(value: u64) -> Self {
                value as Self
            }
            fn to_u64(self) -> u64 {
                self as u64
            }
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    };
}
lane!(u32);
lane!(u64);

/// Calls a function with the width as a constant, so that the copies inside become plain moves.
macro_rules! by_width {
    ($width:expr, $call:ident::<$lane:ty>($($arg:expr),*)) => {
        match $width.bytes() {
            2 => $call::<$lane, 2>($($arg),*),
            3 => $call::<$lane, 3>($($arg),*),
            4 => $call::<$lane, 4>($($arg),*),
            5 => $call::<$lane, 5>($($arg),*),
            6 => $call::<$lane, 6>($($arg),*),
            7 => $call::<$lane, 7>($($arg),*),
            _ => $call::<$lane, 8>($($arg),*),
        }
    };
}

fn pack_const<L: Lane, const W: usize>(lanes: &[L], out: &mut [u8]) {
    for (place, lane) in out.chunks_exact_mut(W).zip(lanes) {
        place.copy_from_slice(&lane.to_u64().to_le_bytes()[..W]);
    }
}

fn add_const<L: Lane, const W: usize>(lanes: &mut [L], packed: &[u8]) {
    for (lane, place) in lanes.iter_mut().zip(packed.chunks_exact(W)) {
        let mut word = [0; 8];
        word[..W].copy_from_slice(place);
        *lane = lane.plus(L::from_u64(u64::from_le_bytes(word)));
    }
}

/// Packs lanes to `width`; `out` is `lanes.len() * width.bytes()` long.
pub(crate) fn pack<L: Lane>(width: RingWidth, lanes: &[L], out: &mut [u8]) {
    by_width!(width, pack_const::<L>(lanes, out));
}

/// Adds packed elements to lanes.
pub(crate) fn add_packed<L: Lane>(width: RingWidth, lanes: &mut [L], packed: &[u8]) {
    by_width!(width, add_const::<L>(lanes, packed));
}

/// The representative in [-2^(b-1), 2^(b-1)): two's complement of b bits.
#[expect(
    clippy::cast_possible_wrap,
    reason = "two's complement is what is asked for"
)]
pub(crate) fn signed<L: Lane>(width: RingWidth, lane: L) -> i64 {
    let shift = 64 - width.bits();
    ((lane.to_u64() << shift) as i64) >> shift
}

#[cfg(test)]
mod tests {
    use super::{RingWidth, add_packed, pack, signed};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn packed_sums_are_sums_mod_two_to_the_b(bytes in 2u8..=8, a in any::<Vec<i64>>()) {
            let width = RingWidth::from_bytes(bytes).unwrap();
            let lanes: Vec<u64> = a.iter().map(|x| x.cast_unsigned()).collect();
            let mut packed = vec![0; a.len() * width.bytes()];
            pack(width, &lanes, &mut packed);
            let mut twice = vec![0u64; a.len()];
            add_packed(width, &mut twice, &packed);
            add_packed(width, &mut twice, &packed);
            let shift = 64 - width.bits();
            for (lane, x) in twice.iter().zip(&a) {
                prop_assert_eq!(signed(width, *lane), (x.wrapping_mul(2) << shift) >> shift);
            }
            if bytes <= 4 {
                let mut narrow = vec![0u32; a.len()];
                add_packed(width, &mut narrow, &packed);
                add_packed(width, &mut narrow, &packed);
                for (lane, wide) in narrow.iter().zip(&twice) {
                    prop_assert_eq!(signed(width, *lane), signed(width, *wide));
                }
            }
        }
    }
}
