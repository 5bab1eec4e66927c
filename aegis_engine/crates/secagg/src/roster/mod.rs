//! What belongs to the roster may be put here: its text, its signature, which one a node takes.
//!
//! The operator's roster: whose keys a client takes, in a text file signed by a key that the nodes pin.
//!
//! ```text
//! aegis-roster 1
//! serial 7                       grows with every change; a node never goes back
//! issued 1795000000              seconds since 1970
//! expires 1826536000
//! signer 8f…                     Ed25519 key (RFC 8032), 64 hex digits
//! member 03… hospital-a          identity, name; sorted by identity
//! member 9c… hospital-b
//! signature 5a…                  128 hex digits, over "aegis/roster/v1" ‖ 00 ‖ all bytes before this line
//! ```
//! One spelling a roster: lower-case digits, no leading zeros, single spaces, LF, nothing after the signature. Members are
//! identities and not Flower's node ids, which a `SuperLink` gives out anew: an advert binds the two for one run.

mod error;
mod signed;
mod text;

use std::fmt::Write;

use data_encoding::HEXLOWER;

pub use error::RosterError;
pub use signed::{SignedRoster, Taken};
use text::Lines;
pub use text::ROSTER_MAX;
#[cfg(feature = "fuzzing")]
pub(crate) use text::again;

use crate::keys;

pub(crate) const DOMAIN: &[u8] = b"aegis/roster/v1\0";

/// SHA-256 of a roster file, as [`Taken`] remembers it.
pub fn roster_hash(text: &str) -> [u8; 32] {
    keys::hash(DOMAIN, &[text.as_bytes()])
}

impl SignedRoster {
    /// The file, signed by `seed`.
    ///
    /// # Errors
    /// [`RosterError::Member`] for names that cannot be written; [`RosterError::Crypto`].
    pub fn sign(&self, seed: &[u8; 32]) -> Result<String, RosterError> {
        let mut text = self.covered(&keys::identity(seed)?)?;
        let signature = keys::sign(seed, &[DOMAIN, text.as_bytes()].concat())?;
        let _ = writeln!(text, "signature {}", HEXLOWER.encode(&signature));
        Ok(text)
    }

    /// Reads a file that the pinned `signer` must have signed. Nothing of it is believed before that.
    ///
    /// # Errors
    /// [`RosterError::Malformed`], [`RosterError::OtherSigner`], [`RosterError::BadSignature`].
    pub fn open(text: &str, signer: &[u8; 32]) -> Result<Self, RosterError> {
        let (roster, found, signature, covered) = Lines::new(text)?.roster()?;
        if found != *signer {
            return Err(RosterError::OtherSigner {
                pinned: HEXLOWER.encode(signer),
                found: HEXLOWER.encode(&found),
            });
        }
        keys::verify(
            0,
            signer,
            &[DOMAIN, covered.as_bytes()].concat(),
            &signature,
        )
        .map_err(|_| RosterError::BadSignature)?;
        Ok(roster)
    }
}
