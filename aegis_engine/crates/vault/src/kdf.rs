//! HKDF-SHA-256 (RFC 5869) and HMAC-SHA-256 (RFC 2104) with the vault's labels.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::{constant_time, hmac};

use crate::error::{Result, VaultError};
use crate::secret::Secret;

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// A pseudorandom key, from which labelled keys are expanded.
pub(crate) struct Prk(aws_lc_rs::hkdf::Prk);

impl Prk {
    /// RFC 5869 §2.2.
    pub fn extract(salt: &[u8], secret: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, salt).extract(secret))
    }

    /// RFC 5869 §2.3 with info = the concatenated `info`, straight into the secret's own memory.
    pub fn expand(&self, info: &[&[u8]]) -> Result<Secret<32>> {
        Secret::try_write(|out| {
            self.0
                .expand(info, Bytes32)
                .and_then(|okm| okm.fill(&mut out[..]))
                .map_err(VaultError::crypto("hkdf"))
        })
    }

    /// As [`expand`](Self::expand) for values that are published, such as commitments.
    pub fn commitment(&self, info: &[&[u8]]) -> Result<[u8; 32]> {
        self.expand(info).map(|value| *value.expose())
    }
}

/// HMAC-SHA-256 under one key, many times: the key's two blocks are hashed once.
pub(crate) struct Macs(hmac::Key);

impl Macs {
    pub fn new(key: &Secret<32>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    pub fn of(&self, data: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
        out
    }
}

/// HMAC-SHA-256 over the concatenated parts.
pub(crate) fn mac(key: &Secret<32>, parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Constant-time equality.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}
