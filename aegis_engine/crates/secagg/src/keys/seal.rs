//! Sealing a pair of shares from one client to another: AES-256-GCM (SP 800-38D).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::derive::Position;
use crate::error::SecAggError;
use crate::secret::{Key32, random};
use crate::shamir::SHARE_LEN;

/// Two shares: of the self-mask seed, then of the round's mask secret.
pub(crate) const PAIR_LEN: usize = 2 * SHARE_LEN;

/// Nonce, ciphertext and tag of one sealed pair of shares.
pub(crate) const SEALED_LEN: usize = 12 + PAIR_LEN + 16;

/// Two shares sealed from one client to another.
pub(crate) type Sealed = [u8; SEALED_LEN];

impl Position {
    fn aad(&self, src: u64, dst: u64) -> [u8; 32] {
        let mut aad = [0; 32];
        for (place, part) in aad
            .chunks_exact_mut(8)
            .zip([self.run, self.round, src, dst])
        {
            place.copy_from_slice(&part.to_le_bytes());
        }
        aad
    }

    /// Seals two shares; the associated data names run, round, sender and receiver.
    pub(crate) fn seal(
        &self,
        key: &Key32,
        (src, dst): (u64, u64),
        pair: &[u8; PAIR_LEN],
    ) -> Result<Sealed, SecAggError> {
        let fail = |_| SecAggError::Crypto {
            what: "sealing a share",
        };
        let nonce = random::<12>()?;
        let mut sealed = [0; SEALED_LEN];
        sealed[..12].copy_from_slice(&*nonce);
        sealed[12..12 + PAIR_LEN].copy_from_slice(pair);
        let gcm = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).map_err(fail)?);
        let tag = gcm
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(self.aad(src, dst)),
                &mut sealed[12..12 + PAIR_LEN],
            )
            .map_err(fail)?;
        sealed[12 + PAIR_LEN..].copy_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens two shares that `src` sealed for `dst`.
    pub(crate) fn open(
        &self,
        key: &Key32,
        (src, dst): (u64, u64),
        sealed: &Sealed,
    ) -> Result<Zeroizing<[u8; PAIR_LEN]>, SecAggError> {
        let refused = SecAggError::ShareRejected { node: src };
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&sealed[..12]);
        let mut buffer = Zeroizing::new(sealed[12..].to_vec());
        let gcm = UnboundKey::new(&AES_256_GCM, &key[..])
            .map(LessSafeKey::new)
            .map_err(|_| SecAggError::Crypto {
                what: "opening a share",
            })?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let Ok(plain) = gcm.open_in_place(nonce, Aad::from(self.aad(src, dst)), &mut buffer) else {
            return Err(refused);
        };
        let mut pair = Zeroizing::new([0; PAIR_LEN]);
        pair.copy_from_slice(plain);
        Ok(pair)
    }
}
