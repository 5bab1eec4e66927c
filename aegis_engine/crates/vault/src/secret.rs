//! Fixed-size secrets in key pages: kept out of core dumps, locked where possible, cleared on drop, never printed, compared in constant time.

use std::fmt;

use aegis_memory::Guarded;
use aws_lc_rs::constant_time;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::system::clock;

/// `N` secret bytes.
///
/// # Guarantees
/// - The bytes live in one slot of the key pages ([`aegis_memory::Guarded`]) that never moves, and are cleared on drop.
/// - `Debug` prints no byte; equality takes the same time wherever the bytes differ.
pub struct Secret<const N: usize>(Guarded<N>);

impl<const N: usize> Secret<N> {
    /// Copies `bytes`; the caller clears its own copy.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != N {
            return Err(VaultError::WrongKeyLength {
                expected: N,
                found: bytes.len(),
            });
        }
        Ok(Self::write(|out| out.copy_from_slice(bytes)))
    }

    /// Fresh bytes from the operating system's random source.
    pub fn random() -> Result<Self> {
        let mut secret = Self(Guarded::zeroed());
        clock::fill(secret.0.get_mut())?;
        Ok(secret)
    }

    /// The bytes. Do not copy them out of their box.
    pub fn expose(&self) -> &[u8; N] {
        self.0.get()
    }

    /// Lets `fill` write into the final allocation, so that no copy stays on the stack.
    pub(crate) fn write(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Guarded::zeroed());
        fill(secret.0.get_mut());
        secret
    }

    /// As [`write`](Self::write), for a `fill` that can fail.
    pub(crate) fn try_write<E>(
        fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut secret = Self(Guarded::zeroed());
        fill(secret.0.get_mut())?;
        Ok(secret)
    }

    /// A second box with the same bytes; not `Clone`, so that copies are seen in a review.
    pub(crate) fn duplicate(&self) -> Self {
        Self::write(|out| out.copy_from_slice(self.expose()))
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(redacted)")
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.expose(), other.expose()).is_ok()
    }
}

impl<const N: usize> Eq for Secret<N> {}

/// Random bytes that are not secret: salts, nonces, ids.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    clock::fill(&mut bytes)?;
    Ok(bytes)
}

/// A random id (RFC 9562 version 4).
pub(crate) fn uuid() -> Result<Uuid> {
    Ok(uuid::Builder::from_random_bytes(random()?).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_no_byte() {
        let secret = Secret::<32>::from_slice(&[0xAB; 32]).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret<32>(redacted)");
    }

    #[test]
    fn other_lengths_are_refused_with_both_lengths() {
        let error = Secret::<32>::from_slice(&[0; 31]).unwrap_err();
        assert!(matches!(
            error,
            VaultError::WrongKeyLength {
                expected: 32,
                found: 31
            }
        ));
    }

    #[test]
    fn equality_is_by_value() {
        let a = Secret::<32>::random().unwrap();
        assert_eq!(a, a.duplicate());
        assert_ne!(a, Secret::<32>::random().unwrap());
    }
}
