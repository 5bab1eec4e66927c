//! `keystore.akv`: the keystore body under the epoch key, the epoch key under the root of its epoch.
//!
//! ```text
//! 0   magic "AEGISAKV"
//! 8   u16 version = 1 | u16 provider (1 raw, 2 key file) | u32 flags = 0
//! 16  vault id 16
//! 32  u64 epoch
//! 40  u32 blob length = 144
//! 44  blob: key check 32 ‖ root check 32 ‖ salt 32 ‖ wrapped epoch key 48
//! 188 commitment of the epoch key 32
//! 220 nonce 12
//! 232 u64 body length, tag included
//! 240 body ciphertext ‖ tag, AAD = bytes 0..240
//! ```
//! Every write has a fresh epoch key, salt and nonce; the root changes with the epoch secret, at every shred.

use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::chunk::GcmKey;
use crate::error::{Result, VaultError};
use crate::kdf::{self, Prk};
use crate::keystore::Body;
use crate::secret::{self, Secret};

const MAGIC: &[u8; 8] = b"AEGISAKV";
const FIXED: usize = 240;
const BLOB: usize = 144;

/// The readable part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    pub vault: Uuid,
    pub epoch: u64,
    pub key_check: [u8; 32],
}

fn corrupt(reason: &str) -> VaultError {
    VaultError::KeystoreCorrupt {
        reason: reason.to_owned(),
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Parses the fixed part; nothing is authenticated yet.
pub(crate) fn peek(bytes: &[u8]) -> Result<Envelope> {
    if bytes.len() < FIXED + 16 || bytes[..8] != *MAGIC {
        return Err(corrupt("magic or length"));
    }
    let version = u16::from_le_bytes(take(bytes, 8));
    let flags = u32::from_le_bytes(take(bytes, 12));
    if version != 1 || flags != 0 {
        let detail = format!("version {version}, flags {flags:#x}");
        return Err(VaultError::UnsupportedFormat {
            what: "keystore.akv".to_owned(),
            detail,
        });
    }
    if u32::from_le_bytes(take(bytes, 40)) as usize != BLOB {
        return Err(corrupt("provider blob length"));
    }
    if u64::from_le_bytes(take(bytes, 232)) != (bytes.len() - FIXED) as u64 {
        return Err(corrupt("body length"));
    }
    Ok(Envelope {
        vault: Uuid::from_bytes(take(bytes, 16)),
        epoch: u64::from_le_bytes(take(bytes, 32)),
        key_check: take(bytes, 44),
    })
}

/// The keys a root makes for one write.
struct Derived {
    check: [u8; 32],
    wrap: GcmKey,
}

impl Derived {
    fn new(root: &Secret<32>, salt: &[u8]) -> Result<Self> {
        let prk = Prk::extract(salt, root.expose());
        Ok(Self {
            check: prk.commitment(&[b"aegis/v1/root-check"])?,
            wrap: GcmKey::new(&prk.expand(&[b"aegis/v1/epoch-wrap"])?)?,
        })
    }
}

fn place(vault: Uuid, epoch: u64) -> [u8; 24] {
    let mut out = [0; 24];
    out[..16].copy_from_slice(vault.as_bytes());
    out[16..].copy_from_slice(&epoch.to_le_bytes());
    out
}

/// Seals `body` under a fresh epoch key.
pub(crate) fn seal(
    envelope: Envelope,
    provider: u16,
    root: &Secret<32>,
    body: &Body,
) -> Result<Vec<u8>> {
    let place = place(envelope.vault, envelope.epoch);
    let salt = secret::random::<32>()?;
    let derived = Derived::new(root, &salt)?;
    let epoch_key = Secret::<32>::random()?;
    let prk = Prk::extract(&place, epoch_key.expose());
    let mut tag = [0; 16];
    // A new salt makes a new wrapping key, which seals this one message: the nonce is zero.
    let wrapped = Secret::<32>::try_write(|data| {
        data.copy_from_slice(epoch_key.expose());
        tag = derived.wrap.seal([0; 12], &place, data)?;
        Ok::<_, VaultError>(())
    })?;
    let nonce = secret::random::<12>()?;
    let mut sealed = body.encode();
    let mut out = Vec::with_capacity(FIXED + sealed.len() + 16);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&provider.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&place);
    out.extend_from_slice(&144u32.to_le_bytes());
    out.extend_from_slice(&envelope.key_check);
    out.extend_from_slice(&derived.check);
    out.extend_from_slice(&salt);
    out.extend_from_slice(wrapped.expose());
    out.extend_from_slice(&tag);
    out.extend_from_slice(&prk.commitment(&[b"aegis/v1/epoch-commit"])?);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&(sealed.len() as u64 + 16).to_le_bytes());
    let tag =
        GcmKey::new(&prk.expand(&[b"aegis/v1/keystore-body"])?)?.seal(nonce, &out, &mut sealed)?;
    out.extend_from_slice(&sealed);
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Opens the body. The caller has checked the provider's key; a root that does not fit means another epoch secret.
pub(crate) fn open(bytes: &[u8], root: &Secret<32>) -> Result<Body> {
    let envelope = peek(bytes)?;
    let place = place(envelope.vault, envelope.epoch);
    let derived = Derived::new(root, &bytes[108..140])?;
    if !kdf::same(&derived.check, &bytes[76..108]) {
        let reason = format!(
            "epoch.key does not belong to this keystore of epoch {}",
            envelope.epoch
        );
        return Err(VaultError::KeyDestroyed { reason });
    }
    let epoch_key = Secret::<32>::try_write(|out| {
        let opened = derived
            .wrap
            .open([0; 12], &place, &bytes[140..172], &bytes[172..188], out);
        opened.ok_or_else(|| corrupt("epoch key"))
    })?;
    let prk = Prk::extract(&place, epoch_key.expose());
    if !kdf::same(
        &prk.commitment(&[b"aegis/v1/epoch-commit"])?,
        &bytes[188..220],
    ) {
        return Err(corrupt("epoch key commitment"));
    }
    let (sealed, tag) = bytes[FIXED..].split_at(bytes.len() - FIXED - 16);
    let mut plain = Zeroizing::new(vec![0; sealed.len()]);
    let key = GcmKey::new(&prk.expand(&[b"aegis/v1/keystore-body"])?)?;
    let opened = key.open(take(bytes, 220), &bytes[..FIXED], sealed, tag, &mut plain);
    opened.ok_or_else(|| corrupt("body"))?;
    let body = Body::decode(&plain);
    plain.zeroize();
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_the_keystore_is_authenticated() {
        let root = Secret::random().unwrap();
        let envelope = Envelope {
            vault: Uuid::from_u128(5),
            epoch: 2,
            key_check: [7; 32],
        };
        let bytes = seal(envelope, 1, &root, &Body::new().unwrap()).unwrap();
        assert!(open(&bytes, &root).is_ok());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(open(&bad, &root).is_err(), "byte {at}");
        }
        for len in 0..bytes.len() {
            assert!(open(&bytes[..len], &root).is_err(), "length {len}");
        }
    }

    #[test]
    fn another_root_is_told_apart_from_damage() {
        let envelope = Envelope {
            vault: Uuid::from_u128(5),
            epoch: 2,
            key_check: [7; 32],
        };
        let bytes = seal(
            envelope,
            1,
            &Secret::random().unwrap(),
            &Body::new().unwrap(),
        )
        .unwrap();
        let other = open(&bytes, &Secret::random().unwrap());
        assert!(matches!(other, Err(VaultError::KeyDestroyed { .. })));
    }

    #[test]
    fn two_writes_of_one_body_share_no_sealed_byte_run() {
        let root = Secret::random().unwrap();
        let envelope = Envelope {
            vault: Uuid::from_u128(5),
            epoch: 2,
            key_check: [7; 32],
        };
        let body = Body::new().unwrap();
        let (a, b) = (
            seal(envelope, 1, &root, &body).unwrap(),
            seal(envelope, 1, &root, &body).unwrap(),
        );
        assert_ne!(a[76..188], b[76..188]);
        assert_ne!(a[240..], b[240..]);
    }
}
