//! A lasting identity: an Ed25519 key (RFC 8032) in a file that only its owner reads.
//!
//! ```text
//! aegis-identity 1
//! secret 4c…            the 32-byte private key, 64 hex digits
//! ```
//!
//! It signs what the protocol signs, and what a caller gives a domain to: "aegis/signed/v1" ‖ 00 ‖ domain ‖ 00 ‖ message. No
//! message of the protocol and no roster starts so, and a domain has no 00: a signature of one kind is never one of another.

use std::fmt;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use crate::error::SecAggError;
use crate::keys;
use crate::secret::Key32;

const HEAD: &str = "aegis-identity 1\nsecret ";

const SIGNED: &[u8] = b"aegis/signed/v1\0";

const DOMAIN_MAX: usize = 64;

/// What is signed for `message` in `domain`; `None` where the domain is none: 1 to 64 of a to z, 0 to 9, `-` and `/`.
fn in_domain(domain: &str, message: &[u8]) -> Option<Vec<u8>> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'/');
    ((1..=DOMAIN_MAX).contains(&domain.len()) && domain.bytes().all(fits))
        .then(|| [SIGNED, domain.as_bytes(), b"\0", message].concat())
}

/// Whether `signature` is that of the identity `public` for `message` in `domain`.
pub fn signature_holds(public: &[u8; 32], domain: &str, message: &[u8], signature: &[u8]) -> bool {
    in_domain(domain, message).is_some_and(|whole| {
        <&[u8; 64]>::try_from(signature)
            .is_ok_and(|signature| keys::verify(0, public, &whole, signature).is_ok())
    })
}

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

    /// Signs `message` in `domain`, so that no other use of the key can take the signature for its own.
    ///
    /// # Errors
    /// [`SecAggError::Malformed`] where the domain is none; [`SecAggError::Crypto`].
    pub fn sign_in(&self, domain: &str, message: &[u8]) -> Result<[u8; 64], SecAggError> {
        let whole = in_domain(domain, message).ok_or(SecAggError::Malformed {
            message: "domain of a signature",
            reason: "it has 1 to 64 of a to z, 0 to 9, - and /",
        })?;
        keys::sign(&self.0, &whole)
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
    fn a_signature_holds_for_its_message_its_domain_and_its_key_alone() {
        let (one, other) = (Identity(Key32::new([1; 32])), Identity(Key32::new([2; 32])));
        let (public, message) = (one.public().unwrap(), b"serial 1");
        let signature = one.sign_in("approvals", message).unwrap();
        assert!(signature_holds(&public, "approvals", message, &signature));
        assert!(!signature_holds(&public, "approval", message, &signature));
        assert!(!signature_holds(
            &public,
            "approvals",
            b"serial 2",
            &signature
        ));
        let stranger = other.public().unwrap();
        assert!(!signature_holds(
            &stranger,
            "approvals",
            message,
            &signature
        ));
        assert!(!signature_holds(&[0; 32], "approvals", message, &signature));
        assert!(!signature_holds(
            &public,
            "approvals",
            message,
            &signature[..63]
        ));
        for bit in 0..512 {
            let mut bad = signature;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !signature_holds(&public, "approvals", message, &bad),
                "{bit}"
            );
        }
        // Where the domain ends is part of what is signed.
        let moved = one.sign_in("a", b"b\0c").unwrap();
        assert!(!signature_holds(&public, "a", b"\0b\0c", &moved));
        assert!(!signature_holds(&public, "ab", b"c", &moved));
    }

    #[test]
    fn what_is_no_domain_signs_nothing_and_holds_for_nothing() {
        let identity = Identity(Key32::new([1; 32]));
        let long = "a".repeat(DOMAIN_MAX + 1);
        for domain in ["", "A", "a b", "a\0", "\u{e4}", long.as_str()] {
            assert!(identity.sign_in(domain, b"m").is_err(), "{domain:?}");
            let whole = [SIGNED, domain.as_bytes(), b"\0m"].concat();
            let forced = keys::sign(&identity.0, &whole).unwrap();
            let public = identity.public().unwrap();
            assert!(
                !signature_holds(&public, domain, b"m", &forced),
                "{domain:?}"
            );
        }
        assert!(identity.sign_in(&long[1..], b"m").is_ok());
    }

    #[test]
    fn a_signed_note_is_no_roster_and_a_roster_is_no_signed_note() {
        let (identity, text) = (Identity(Key32::new([1; 32])), "serial 1\n");
        let public = identity.public().unwrap();
        let roster = [crate::roster::DOMAIN, text.as_bytes()].concat();
        let of_roster = keys::sign(&identity.0, &roster).unwrap();
        for domain in ["aegis/roster/v1", "roster", "roster/v1"] {
            assert!(!signature_holds(
                &public,
                domain,
                text.as_bytes(),
                &of_roster
            ));
            let note = identity.sign_in(domain, text.as_bytes()).unwrap();
            assert!(keys::verify(0, &public, &roster, &note).is_err());
        }
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
