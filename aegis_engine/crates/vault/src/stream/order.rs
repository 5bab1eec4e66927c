//! The order of records in an epoch: reproducible from (seed, epoch) by anybody who has this description.
//!
//! Random words: AES-256 in counter mode (SP 800-38A §6.5, initial counter block zero) under the key
//! HMAC-SHA-256("aegis/v1/shuffle", `u64 seed ‖ u64 epoch ‖ u64 stream`), read as little-endian u64. A number below `n`
//! is `word mod n`, words at or above the largest multiple of `n` are skipped: exactly uniform. A permutation is
//! Fisher and Yates's: for `i` from `n - 1` down to 1, swap `i` with a number below `i + 1`. Stream 0 orders the blocks,
//! stream `1 + g` the records of group `g`. All integers little-endian.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use crate::error::{Result, VaultError};

const BUFFER: usize = 4096;

pub(crate) struct Words {
    key: EncryptingKey,
    block: u128,
    buffer: [u8; BUFFER],
    used: usize,
}

impl Words {
    pub fn new(seed: u64, epoch: u64, stream: u64) -> Result<Self> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"aegis/v1/shuffle");
        let mut context = hmac::Context::with_key(&key);
        for part in [seed, epoch, stream] {
            context.update(&part.to_le_bytes());
        }
        let key = UnboundCipherKey::new(&AES_256, context.sign().as_ref())
            .and_then(EncryptingKey::ctr)
            .map_err(VaultError::crypto("shuffle"))?;
        Ok(Self {
            key,
            block: 0,
            buffer: [0; BUFFER],
            used: BUFFER,
        })
    }

    fn word(&mut self) -> Result<u64> {
        if self.used == BUFFER {
            self.buffer.fill(0);
            let counter = EncryptionContext::Iv128(FixedLength::from(self.block.to_be_bytes()));
            self.key
                .less_safe_encrypt(&mut self.buffer, counter)
                .map_err(VaultError::crypto("shuffle"))?;
            self.block += (BUFFER / 16) as u128;
            self.used = 0;
        }
        let mut word = [0; 8];
        word.copy_from_slice(&self.buffer[self.used..self.used + 8]);
        self.used += 8;
        Ok(u64::from_le_bytes(word))
    }

    fn below(&mut self, n: u64) -> Result<u64> {
        // 2^64 mod n words at the top would make low numbers likelier.
        let spare = (u64::MAX % n + 1) % n;
        loop {
            let word = self.word()?;
            if word <= u64::MAX - spare {
                return Ok(word % n);
            }
        }
    }

    /// A permutation of `0..n`.
    pub fn permutation(&mut self, n: u32) -> Result<Vec<u32>> {
        let mut order: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.below(u64::from(i) + 1)?;
            order.swap(i as usize, usize::try_from(j).unwrap_or(0));
        }
        Ok(order)
    }
}

/// The permutation of `0..count` of that stream: blocks (0) or the records of group `stream - 1`.
pub fn shuffle_order(seed: u64, epoch: u64, stream: u64, count: u32) -> Result<Vec<u32>> {
    Words::new(seed, epoch, stream)?.permutation(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_has_every_number_once_and_follows_from_its_seeds() {
        let draw = |seed, epoch, stream, n| {
            Words::new(seed, epoch, stream)
                .unwrap()
                .permutation(n)
                .unwrap()
        };
        for n in [0, 1, 2, 3, 1000, 100_000] {
            let mut sorted = draw(1, 2, 3, n);
            assert_eq!(sorted, draw(1, 2, 3, n));
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..n));
        }
        let base = draw(1, 2, 3, 50);
        for other in [draw(2, 2, 3, 50), draw(1, 3, 3, 50), draw(1, 2, 4, 50)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn every_order_of_four_is_equally_likely() {
        let mut seen = std::collections::HashMap::new();
        for seed in 0..24_000 {
            let order = Words::new(seed, 0, 0).unwrap().permutation(4).unwrap();
            *seen.entry(order).or_insert(0_i32) += 1;
        }
        assert_eq!(seen.len(), 24);
        // Chi-square with 23 degrees of freedom: 72.1 has probability 1e-6 (and the seeds are fixed).
        let chi: f64 = seen
            .values()
            .map(|n| f64::from((n - 1000) * (n - 1000)) / 1000.0)
            .sum();
        assert!(chi < 72.1, "{chi}");
    }
}
