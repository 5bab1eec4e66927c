//! A lasting identity: an Ed25519 key (RFC 8032) in a file that only its owner reads.
//!
//! ```text
//! aegis-identity 1
//! secret 4c…            the 32-byte private key, 64 hex digits
//! ```

use std::fmt;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use crate::error::SecAggError;
use crate::keys;
use crate::secret::Key32;

const HEAD: &str = "aegis-identity 1\nsecret ";

/// The private key of a node or of the operator who signs rosters. Wiped on drop, never shown.
pub struct Identity(Key32);

impl Identity {
    /// A fresh one.
    ///
    /// # Errors
    /// [`SecAggError::Crypto`] when the operating system gives no randomness.
    pub fn generate() -> Result<Self, SecAggError> {
        Key32::random().map(Self)
    }

    /// The file's text. It is the secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(HEXLOWER.encode(&self.0[..]));
        let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + digits.len() + 1));
        text.push_str(HEAD);
        text.push_str(&digits);
        text.push('\n');
        text
    }

    /// Reads [`to_text`](Self::to_text); `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HEAD)?.strip_suffix('\n')?;
        let seed = Zeroizing::new(HEXLOWER.decode(digits.as_bytes()).ok()?);
        Some(Self(Key32::new(seed.as_slice().try_into().ok()?)))
    }

    /// The verification key: what a roster lists.
    ///
    /// # Errors
    /// [`SecAggError::Crypto`].
    pub fn public(&self) -> Result<[u8; 32], SecAggError> {
        keys::identity(&self.0)
    }

    /// The private key, for signing.
    pub fn seed(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_file_and_nothing_else_is_one() {
        let identity = Identity::generate().unwrap();
        let text = identity.to_text();
        let again = Identity::from_text(&text).unwrap();
        assert_eq!(again.public().unwrap(), identity.public().unwrap());
        assert_eq!(text.len(), 89);
        for bad in [
            text[..text.len() - 1].to_owned(),
            format!("{}\n", *text),
            text.replace("identity 1", "identity 2"),
            text.to_uppercase(),
            String::new(),
        ] {
            assert!(Identity::from_text(&bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{identity:?}"), "Identity(secret)");
    }

    #[test]
    fn the_verification_key_is_that_of_rfc_8032() {
        // Section 7.1, test 1.
        let seed = HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let seed = Key32::new(seed.try_into().unwrap());
        let public = Identity(seed).public().unwrap();
        assert_eq!(
            HEXLOWER.encode(&public),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }
}
