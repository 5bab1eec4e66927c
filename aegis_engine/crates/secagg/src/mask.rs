//! Masks: AES-256-CTR keystreams (SP 800-38A section 6.5) added to lanes chunk by chunk.
//!
//! All masks are added to one chunk before the next is touched, so the vector passes through memory
//! once however many masks there are. Within a chunk of m elements the keystream is read as planes: the low
//! 4 (or 2) bytes of all m elements, then the next bytes of all, so that adding is plain vector arithmetic
//! for 24-bit elements too and no keystream is thrown away.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use crate::SecAggError;
use crate::keys::Key32;
use crate::ring::{Lane, RingWidth};

/// Elements of a chunk: 16 KiB of 32-bit lanes. Part of the wire format, because planes depend on it.
pub(crate) const CHUNK: usize = 4096;

/// One keystream and its sign.
pub(crate) struct Mask {
    key: EncryptingKey,
    negate: bool,
}

impl Mask {
    pub(crate) fn new(key: &Key32, negate: bool) -> Result<Self, SecAggError> {
        UnboundCipherKey::new(&AES_256, &key[..])
            .and_then(EncryptingKey::ctr)
            .map(|key| Self { key, negate })
            .map_err(|_| SecAggError::Crypto {
                what: "expanding a mask key",
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
    // a full chunk is a whole number of AES blocks for every width, so blocks are never used twice
    let first_block = chunk as u128 * (CHUNK * width.bytes() / 16) as u128;
    for mask in masks {
        stream.fill(0);
        let counter = EncryptionContext::Iv128(FixedLength::from(first_block.to_be_bytes()));
        mask.key
            .less_safe_encrypt(stream, counter)
            .map_err(|_| SecAggError::Crypto {
                what: "expanding a mask",
            })?;
        add_planes(width, lanes, stream, mask.negate);
    }
    Ok(())
}

fn add_planes<L: Lane>(width: RingWidth, lanes: &mut [L], mut stream: &[u8], negate: bool) {
    let mut done = 0;
    while done < width.bytes() {
        let size = match width.bytes() - done {
            4.. => 4,
            2 | 3 => 2,
            _ => 1,
        };
        let (plane, rest) = stream.split_at(lanes.len() * size);
        stream = rest;
        let shift = u32::try_from(done).unwrap_or(0) * 8; // done < 8
        match (size, negate) {
            (4, false) => add_plane::<L, 4>(lanes, plane, |lane, part| lane.plus(part, shift)),
            (4, true) => add_plane::<L, 4>(lanes, plane, |lane, part| lane.minus(part, shift)),
            (2, false) => add_plane::<L, 2>(lanes, plane, |lane, part| lane.plus(part, shift)),
            (2, true) => add_plane::<L, 2>(lanes, plane, |lane, part| lane.minus(part, shift)),
            (_, false) => add_plane::<L, 1>(lanes, plane, |lane, part| lane.plus(part, shift)),
            (_, true) => add_plane::<L, 1>(lanes, plane, |lane, part| lane.minus(part, shift)),
        }
        done += size;
    }
}

#[inline]
fn add_plane<L: Lane, const S: usize>(lanes: &mut [L], plane: &[u8], add: impl Fn(L, u32) -> L) {
    for (lane, part) in lanes.iter_mut().zip(plane.chunks_exact(S)) {
        let mut word = [0; 4];
        word[..S].copy_from_slice(part);
        *lane = add(*lane, u32::from_le_bytes(word));
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Mask, Scratch, apply};
    use crate::ring::{RingWidth, signed};
    use zeroize::Zeroizing;

    fn masked(bytes: u8, len: usize, signs: &[(u8, bool)]) -> Vec<u64> {
        let width = RingWidth::from_bytes(bytes).unwrap();
        let masks: Vec<Mask> = signs
            .iter()
            .map(|(seed, negate)| Mask::new(&Zeroizing::new([*seed; 32]), *negate).unwrap())
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
            let masks = [Mask::new(&Zeroizing::new([9; 32]), true).unwrap()];
            let mut narrow = vec![5u32; 1000];
            let mut wide = vec![5u64; 1000];
            apply(width, &mut narrow, 3, &masks, &mut Scratch::new(width)).unwrap();
            apply(width, &mut wide, 3, &masks, &mut Scratch::new(width)).unwrap();
            for (a, b) in narrow.iter().zip(&wide) {
                assert_eq!(signed(width, *a), signed(width, *b));
            }
        }
    }

    /// Keystream of `openssl enc -aes-256-ctr` under 32 bytes 0x01, read as planes of 2 and 1 bytes.
    #[test]
    fn the_first_elements_of_two_chunks_are_those_openssl_gives() {
        let width = RingWidth::from_bytes(3).unwrap();
        let mask = [Mask::new(&Zeroizing::new([1; 32]), false).unwrap()];
        for (chunk, expected) in [
            (
                0,
                [
                    0x0023_9872u32,
                    0x00d2_a5ca,
                    0x003e_0365,
                    0x00a6_ad1e,
                    0x0063_cec6,
                ],
            ),
            (
                1,
                [
                    0x00b5_c186,
                    0x007b_5e08,
                    0x001d_67ba,
                    0x0067_fb32,
                    0x0082_ac15,
                ],
            ),
        ] {
            let mut lanes = [0u32; 5];
            apply(width, &mut lanes, chunk, &mask, &mut Scratch::new(width)).unwrap();
            assert_eq!(lanes, expected);
        }
    }
}
