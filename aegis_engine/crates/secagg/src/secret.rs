//! Secret bytes: wiped on drop, never shown, compared in constant time. They lie in ordinary memory; pages that are locked and
//! guarded are `aegis-memory`'s, and the caller seals what it stores.

use std::fmt;
use std::ops::Deref;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::SecAggError;

/// A secret of 32 bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Key32([u8; 32]);

impl Key32 {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Fresh, of the operating system.
    pub(crate) fn random() -> Result<Self, SecAggError> {
        random::<32>().map(|bytes| Self(*bytes))
    }

    /// Of whatever `fill` writes; nothing when it fails.
    pub(crate) fn filled<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Self([0; 32]);
        fill(&mut key.0)?;
        Ok(key)
    }
}

impl Deref for Key32 {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Key32 {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Key32 {}

impl fmt::Debug for Key32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key32(secret)")
    }
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SecAggError> {
    let mut out = Zeroizing::new([0; N]);
    SystemRandom::new()
        .fill(&mut out[..])
        .map_err(|_| SecAggError::Crypto {
            what: "system randomness",
        })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::Key32;

    #[test]
    fn a_key_is_never_shown_and_equals_only_itself() {
        let key = Key32::new([7; 32]);
        assert_eq!(format!("{key:?}"), "Key32(secret)");
        assert_eq!(key, key.clone());
        for place in 0..32 {
            let mut other = [7; 32];
            other[place] ^= 1;
            assert_ne!(key, Key32::new(other));
        }
    }
}
