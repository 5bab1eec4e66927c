//! The shuffled ring of a sparse graph: the same for every client of a cohort.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use crate::error::SecAggError;
use crate::keys;

const GRAPH: &[u8] = b"aegis/secagg/v2/graph";

/// A shuffled ring of the cohort's places; neighbours are the `degree / 2` next on either side.
#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
pub(crate) struct Ring {
    pub(super) order: Vec<u32>,
    place: Vec<u32>,
}

impl Ring {
    /// The ring every client of a cohort computes alike: a Fisher-Yates shuffle drawn from the transcript.
    pub(crate) fn new(transcript: &[u8; 32], n: u32) -> Result<Self, SecAggError> {
        let mut draws = Draws::new(&keys::hash(GRAPH, &[transcript]))?;
        let mut order: Vec<u32> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last as usize, draws.below(last + 1)? as usize);
        }
        let mut place = vec![0; order.len()];
        for (at, index) in (0..n).zip(&order) {
            place[*index as usize] = at;
        }
        Ok(Self { order, place })
    }

    /// Places in the cohort of the neighbours of `index`, in increasing order.
    pub(crate) fn neighbours(&self, index: u32, degree: u32) -> Vec<u32> {
        let n = self.order.len();
        let at = self.place[index as usize] as usize;
        let mut near: Vec<u32> = (1..=degree as usize / 2)
            .flat_map(|step| [(at + step) % n, (at + n - step) % n])
            .map(|at| self.order[at])
            .collect();
        near.sort_unstable();
        near
    }
}

/// Public random numbers from a seed: AES-256-CTR words, rejected above the last whole multiple.
struct Draws {
    key: EncryptingKey,
    block: u128,
    words: Vec<u8>,
}

impl Draws {
    const BYTES: usize = 4096;

    fn new(seed: &[u8; 32]) -> Result<Self, SecAggError> {
        UnboundCipherKey::new(&AES_256, seed)
            .and_then(EncryptingKey::ctr)
            .map(|key| Self {
                key,
                block: 0,
                words: Vec::new(),
            })
            .map_err(|_| SecAggError::Crypto {
                what: "drawing a graph",
            })
    }

    fn below(&mut self, bound: u32) -> Result<u32, SecAggError> {
        let whole = u32::MAX - u32::MAX % bound;
        loop {
            let Some(start) = self.words.len().checked_sub(4) else {
                self.refill()?;
                continue;
            };
            let mut word = [0; 4];
            word.copy_from_slice(&self.words[start..]);
            self.words.truncate(start);
            let word = u32::from_le_bytes(word);
            if word < whole {
                return Ok(word % bound);
            }
        }
    }

    fn refill(&mut self) -> Result<(), SecAggError> {
        self.words = vec![0; Self::BYTES];
        let counter = EncryptionContext::Iv128(FixedLength::from(self.block.to_be_bytes()));
        self.key
            .less_safe_encrypt(&mut self.words, counter)
            .map_err(|_| SecAggError::Crypto {
                what: "drawing a graph",
            })?;
        self.block += (Self::BYTES / 16) as u128;
        Ok(())
    }
}
