//! Keys derived from the vault's node secret: pseudonyms, MACs, and small sealed state of the node.

use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
use crate::format::chunk::GcmKey;
use crate::kdf::{Macs, Prk};
use crate::secret::{self, Secret};
use crate::vault::Vault;

/// version 1 ‖ salt 32 ‖ ciphertext ‖ tag 16
const SALT: usize = 33;
const OVERHEAD: usize = SALT + 16;

/// The pseudonym of an identifier in its one spelling.
pub(crate) fn pseudonym(keyed: &Macs, subject: &str) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&keyed.of(subject.as_bytes())[..16]);
    out
}

impl Vault {
    fn derive(&self, salt: &[u8], label: &[u8], domain: &str) -> Result<Secret<32>> {
        let state = self.inner.known();
        // The length keeps label and domain apart from every other pair.
        Prk::extract(salt, state.body.node.expose()).expand(&[
            label,
            &(domain.len() as u64).to_le_bytes(),
            domain.as_bytes(),
        ])
    }

    /// The pseudonym of a person's identifier: stable in this vault, not linkable to another vault's.
    pub fn pseudonym(&self, subject: &str) -> Result<[u8; 16]> {
        Ok(pseudonym(&self.pseudonyms()?, subject))
    }

    /// What makes pseudonyms, for many.
    pub(crate) fn pseudonyms(&self) -> Result<Macs> {
        self.macs("aegis/v1/pseudonym")
    }

    /// HMAC-SHA-256 of `data` under a key of this vault and `domain`.
    pub fn mac(&self, domain: &str, data: &[u8]) -> Result<[u8; 32]> {
        Ok(self.macs(domain)?.of(data))
    }

    /// As [`mac`](Self::mac), for many.
    pub(crate) fn macs(&self, domain: &str) -> Result<Macs> {
        let key = self.derive(b"aegis/v1/node", b"aegis/v1/mac", domain)?;
        Ok(Macs::new(&key))
    }

    /// Seals a small value under this vault and `domain`; `aad` must be the same when it is opened. A fresh salt
    /// makes a fresh key, so there is no nonce to repeat.
    pub fn seal_blob(&self, domain: &str, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        self.inner.same_process()?;
        let salt = secret::random::<32>()?;
        let key = GcmKey::new(&self.derive(&salt, b"aegis/v1/blob", domain)?)?;
        let mut sealed = Zeroizing::new(plain.to_vec());
        let tag = key.seal([0; 12], aad, &mut sealed)?;
        let mut out = Vec::with_capacity(OVERHEAD + sealed.len());
        out.push(1);
        out.extend_from_slice(&salt);
        out.extend_from_slice(&sealed);
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens what [`seal_blob`](Self::seal_blob) made with the same domain and `aad`.
    pub fn open_blob(&self, domain: &str, aad: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let failed = || VaultError::BlobAuthFailed {
            domain: domain.to_owned(),
        };
        if blob.len() < OVERHEAD || blob[0] != 1 {
            return Err(failed());
        }
        let key = GcmKey::new(&self.derive(&blob[1..SALT], b"aegis/v1/blob", domain)?)?;
        let (sealed, tag) = blob[SALT..].split_at(blob.len() - OVERHEAD);
        let mut plain = Zeroizing::new(vec![0; sealed.len()]);
        key.open([0; 12], aad, sealed, tag, &mut plain)
            .ok_or_else(failed)?;
        Ok(plain)
    }
}
