//! Masks: AES-256-CTR keystreams (SP 800-38A section 6.5) added to lanes chunk by chunk.
//!
//! The keystream of a chunk is the ciphertext that AES-256-GCM gives for zeros under the chunk's number as nonce, its tag
//! dropped: GCM encrypts in counter mode (SP 800-38D section 7.1, GCTR from inc32(J0)). AWS-LC's GCM works on several blocks at
//! once with vector AES where its counter mode does not, which makes it twice as fast with the unused tag computed.
//!
//! All masks are added to one chunk before the next is touched, so the vector passes through memory
//! once however many masks there are. Within a chunk of m elements the keystream is read as planes: the low
//! 4 (or 2) bytes of all m elements, then the next bytes of all, so that adding is plain vector arithmetic
//! for 24-bit elements too and no keystream is thrown away.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::SecAggError;
use crate::ring::{Lane, RingWidth};
use crate::secret::Key32;

/// Elements of a chunk: 16 KiB of 32-bit lanes. Part of the wire format, because planes and counters depend on it.
pub(crate) const CHUNK: usize = 4096;

/// One keystream and its sign.
pub(crate) struct Mask {
    key: LessSafeKey,
    negate: bool,
}

impl Mask {
    /// A mask of a key that is used for this one mask and nothing else: a nonce may come once under a key.
    pub(crate) fn new(key: &Key32, negate: bool) -> Result<Self, SecAggError> {
        let fail = |_| SecAggError::Crypto {
            what: "expanding a mask key",
        };
        let key = UnboundKey::new(&AES_256_GCM, &key[..]).map_err(fail)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            negate,
        })
    }

    /// Fills `stream` with the keystream of a chunk.
    fn expand(&self, chunk: usize, stream: &mut [u8]) -> Result<(), SecAggError> {
        stream.fill(0);
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&(chunk as u64).to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_separate_tag(nonce, Aad::empty(), stream)
            .map(drop)
            .map_err(|_| SecAggError::Crypto {
                what: "expanding a mask",
            })
    }
}

/// Keystream buffer, wiped on drop; make one a thread and use it for all chunks.
pub(crate) struct Scratch(Zeroizing<Vec<u8>>);

impl Scratch {
    pub(crate) fn new(width: RingWidth) -> Self {
        Self(Zeroizing::new(vec![0; CHUNK * width.bytes()]))
    }
}

/// Adds every mask to the lanes of chunk number `chunk` (at most [`CHUNK`] lanes).
pub(crate) fn apply<L: Lane>(
    width: RingWidth,
    lanes: &mut [L],
    chunk: usize,
    masks: &[Mask],
    scratch: &mut Scratch,
) -> Result<(), SecAggError> {
    let stream = &mut scratch.0[..lanes.len() * width.bytes()];
    for mask in masks {
        mask.expand(chunk, stream)?;
        if mask.negate {
            add_planes(width, lanes, stream, L::minus);
        } else {
            add_planes(width, lanes, stream, L::plus);
        }
    }
    Ok(())
}

fn add_planes<L: Lane>(width: RingWidth, lanes: &mut [L], stream: &[u8], add: impl Fn(L, L) -> L) {
    match width.bytes() {
        2 => one::<L, 2>(lanes, stream, add),
        3 => two::<L, 2, 1>(lanes, stream, add),
        4 => one::<L, 4>(lanes, stream, add),
        5 => two::<L, 4, 1>(lanes, stream, add),
        6 => two::<L, 4, 2>(lanes, stream, add),
        7 => three(lanes, stream, add),
        _ => two::<L, 4, 4>(lanes, stream, add),
    }
}

/// A little-endian number of at most 4 bytes.
#[inline]
fn part<const S: usize>(bytes: &[u8; S]) -> u64 {
    let mut word = [0; 4];
    word[..S].copy_from_slice(bytes);
    u64::from(u32::from_le_bytes(word))
}

#[inline]
fn one<L: Lane, const A: usize>(lanes: &mut [L], stream: &[u8], add: impl Fn(L, L) -> L) {
    let (low, _) = stream.as_chunks::<A>();
    for (lane, low) in lanes.iter_mut().zip(low) {
        *lane = add(*lane, L::from_u64(part(low)));
    }
}

#[inline]
fn two<L: Lane, const A: usize, const B: usize>(
    lanes: &mut [L],
    stream: &[u8],
    add: impl Fn(L, L) -> L,
) {
    let (low, high) = stream.split_at(lanes.len() * A);
    let (low, high) = (low.as_chunks::<A>().0, high.as_chunks::<B>().0);
    for ((lane, low), high) in lanes.iter_mut().zip(low).zip(high) {
        *lane = add(*lane, L::from_u64(part(low) | part(high) << (8 * A)));
    }
}

fn three<L: Lane>(lanes: &mut [L], stream: &[u8], add: impl Fn(L, L) -> L) {
    let (low, rest) = stream.split_at(lanes.len() * 4);
    let (middle, high) = rest.split_at(lanes.len() * 2);
    let parts = low.as_chunks::<4>().0.iter().zip(middle.as_chunks::<2>().0);
    for ((lane, (low, middle)), high) in lanes.iter_mut().zip(parts).zip(high) {
        let word = part(low) | part(middle) << 32 | u64::from(*high) << 48;
        *lane = add(*lane, L::from_u64(word));
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Mask, Scratch, apply};
    use crate::ring::{RingWidth, signed};
    use crate::secret::Key32;

    fn masked(bytes: u8, len: usize, signs: &[(u8, bool)]) -> Vec<u64> {
        let width = RingWidth::from_bytes(bytes).unwrap();
        let masks: Vec<Mask> = signs
            .iter()
            .map(|(seed, negate)| Mask::new(&Key32::new([*seed; 32]), *negate).unwrap())
            .collect();
        let mut lanes = vec![0u64; len];
        let mut scratch = Scratch::new(width);
        for (chunk, lanes) in lanes.chunks_mut(CHUNK).enumerate() {
            apply(width, lanes, chunk, &masks, &mut scratch).unwrap();
        }
        lanes
    }

    #[test]
    fn a_mask_and_its_negative_cancel_at_every_width() {
        for bytes in 2..=8 {
            for len in [1, 15, CHUNK, 2 * CHUNK + 7] {
                let width = RingWidth::from_bytes(bytes).unwrap();
                let lanes = masked(bytes, len, &[(1, false), (2, true), (1, true), (2, false)]);
                assert!(
                    lanes.iter().all(|lane| signed(width, *lane) == 0),
                    "{bytes} {len}"
                );
            }
        }
    }

    #[test]
    fn chunks_of_a_mask_differ() {
        let lanes = masked(4, 2 * CHUNK, &[(1, false)]);
        let same = (0..CHUNK).filter(|i| lanes[*i] == lanes[i + CHUNK]).count();
        assert!(
            same < 3,
            "{same} of {CHUNK} elements repeat in the next chunk"
        );
    }

    #[test]
    fn narrow_and_wide_lanes_agree() {
        for bytes in 2..=4 {
            let width = RingWidth::from_bytes(bytes).unwrap();
            let masks = [Mask::new(&Key32::new([9; 32]), true).unwrap()];
            let mut narrow = vec![5u32; 1000];
            let mut wide = vec![5u64; 1000];
            apply(width, &mut narrow, 3, &masks, &mut Scratch::new(width)).unwrap();
            apply(width, &mut wide, 3, &masks, &mut Scratch::new(width)).unwrap();
            for (a, b) in narrow.iter().zip(&wide) {
                assert_eq!(signed(width, *a), signed(width, *b));
            }
        }
    }

    /// Keystream of `openssl enc -aes-256-ctr` under 32 bytes 0x01 from the counter 12 bytes of chunk number, then 2: read as
    /// planes of 2 and 1 bytes.
    #[test]
    fn the_first_elements_of_two_chunks_are_those_openssl_gives() {
        let width = RingWidth::from_bytes(3).unwrap();
        let mask = [Mask::new(&Key32::new([1; 32]), false).unwrap()];
        for (chunk, expected) in [
            (
                0,
                [
                    0x0092_35bfu32,
                    0x0045_dc98,
                    0x0071_3b75,
                    0x0024_bf03,
                    0x00c1_7993,
                ],
            ),
            (
                1,
                [
                    0x00d0_dabb,
                    0x0079_8790,
                    0x0035_3edc,
                    0x0026_2279,
                    0x00a9_3309,
                ],
            ),
        ] {
            let mut lanes = [0u32; 5];
            apply(width, &mut lanes, chunk, &mask, &mut Scratch::new(width)).unwrap();
            assert_eq!(lanes, expected);
        }
    }
}
