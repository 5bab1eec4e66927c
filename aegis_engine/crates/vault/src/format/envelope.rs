//! `keystore.akv`: the keystore body under the epoch key, the epoch key under the root of its epoch.
//!
//! ```text
//! 0   magic "AEGISAKV" (a keystore) or "AEGISAKB" (a backup of one)
//! 8   u16 version = 2 | u16 provider kind (1 key, 2 passphrase, 3 pkcs11, 4 kms) | u32 flags = 0
//! 16  vault id 16
//! 32  u64 epoch
//! 40  u64 generation: one more at every write
//! 48  u32 length p of the provider's parameters ≤ 1024 | u32 zero
//! 56  key check 32 ‖ root check 32 ‖ salt 32 ‖ wrapped epoch key 48
//! 200 commitment of the epoch key 32
//! 232 nonce 12
//! 244 u64 body length, tag included
//! 252 parameters p
//! 252+p body ciphertext ‖ tag, AAD = all bytes before
//! …   the changes since (a keystore only), see `changes.rs`
//! ```
//! Every base has a fresh epoch key, salt and nonce; the root changes with the epoch secret, at every shred. Version 1 has no
//! changes and `v1` in its labels; it is read, not written.

use aegis_audit::Mark;
use aegis_memory::Pages;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::changes::Chain;
use crate::format::chunk::GcmKey;
use crate::format::keystore::{Body, Delta};
use crate::format::kind::{Kind, PARAMS_MAX};
use crate::kdf::{self, Prk};
use crate::secret::{self, Secret};

/// Before the provider's parameters.
pub(crate) const FIXED: usize = 252;
/// A base, and so a keystore, larger than this is not ours: about 19 million objects. One GCM message may have 2^36 - 32 bytes.
pub(crate) const BASE_MAX: u64 = 1 << 32;
/// The version that is written.
pub(crate) const VERSION: u16 = 2;

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Keystore,
    Backup,
}

impl Form {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Keystore => b"AEGISAKV",
            Self::Backup => b"AEGISAKB",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Keystore => "keystore.akv",
            Self::Backup => "the keystore backup",
        }
    }
}

/// The readable part.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub form: Form,
    pub version: u16,
    pub vault: Uuid,
    pub epoch: u64,
    pub generation: u64,
    pub provider: Kind,
    pub params: Vec<u8>,
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

/// Parses the readable part; nothing is authenticated yet.
pub(crate) fn peek(bytes: &[u8], form: Form) -> Result<Envelope> {
    if bytes.len() < FIXED + 16 || bytes[..8] != *form.magic() {
        return Err(corrupt("magic or length"));
    }
    let unsupported = |detail: String| VaultError::UnsupportedFormat {
        what: form.what().to_owned(),
        detail,
    };
    let version = u16::from_le_bytes(take(bytes, 8));
    let flags = u32::from_le_bytes(take(bytes, 12));
    if !(1..=VERSION).contains(&version) || flags != 0 {
        return Err(unsupported(format!("version {version}, flags {flags:#x}")));
    }
    let kind = u16::from_le_bytes(take(bytes, 10));
    let provider =
        Kind::of(kind).ok_or_else(|| unsupported(format!("key provider kind {kind}")))?;
    let params = u32::from_le_bytes(take(bytes, 48)) as usize;
    if params > PARAMS_MAX || bytes[52..56] != [0; 4] || bytes.len() < FIXED + params + 16 {
        return Err(corrupt("provider parameters"));
    }
    let body = u64::from_le_bytes(take(bytes, 244));
    let rest = (bytes.len() - FIXED - params) as u64;
    let changes = version > 1 && form == Form::Keystore;
    if body < 16 || body > rest || (body < rest && !changes) {
        return Err(corrupt("body length"));
    }
    Ok(Envelope {
        form,
        version,
        vault: Uuid::from_bytes(take(bytes, 16)),
        epoch: u64::from_le_bytes(take(bytes, 32)),
        generation: u64::from_le_bytes(take(bytes, 40)),
        provider,
        params: bytes[FIXED..FIXED + params].to_vec(),
        key_check: take(bytes, 56),
    })
}

/// Each version derives keys of its own.
fn label(version: u16) -> &'static [u8] {
    if version == 1 {
        b"aegis/v1/"
    } else {
        b"aegis/v2/"
    }
}

/// The keys a root makes for one write.
struct Derived {
    check: [u8; 32],
    wrap: GcmKey,
}

impl Derived {
    fn new(version: u16, root: &Secret<32>, salt: &[u8]) -> Result<Self> {
        let prk = Prk::extract(salt, root.expose());
        let label = label(version);
        Ok(Self {
            check: prk.commitment(&[label, b"root-check"])?,
            wrap: GcmKey::new(&prk.expand(&[label, b"epoch-wrap"])?)?,
        })
    }
}

fn place(vault: Uuid, epoch: u64) -> [u8; 24] {
    let mut out = [0; 24];
    out[..16].copy_from_slice(vault.as_bytes());
    out[16..].copy_from_slice(&epoch.to_le_bytes());
    out
}

/// A base, and what the changes behind it are sealed with.
pub(crate) struct Base {
    pub bytes: Vec<u8>,
    pub chain: Chain,
}

/// Seals `body` with what `delta` changes, under a fresh epoch key.
pub(crate) fn seal(
    envelope: &Envelope,
    root: &Secret<32>,
    body: &Body,
    delta: &Delta,
    audit: &Mark,
) -> Result<Base> {
    let place = place(envelope.vault, envelope.epoch);
    let label = label(VERSION);
    let salt = secret::random::<32>()?;
    let derived = Derived::new(VERSION, root, &salt)?;
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
    let mut sealed = body.encode(delta, audit)?;
    let size = FIXED + envelope.params.len() + sealed.len() + 16;
    if size as u64 > BASE_MAX {
        return Err(VaultError::KeystoreFull {
            bytes: size as u64,
            max: BASE_MAX,
        });
    }
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(envelope.form.magic());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&envelope.provider.id().to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&place);
    out.extend_from_slice(&envelope.generation.to_le_bytes());
    let params = u32::try_from(envelope.params.len()).unwrap_or(u32::MAX);
    if params as usize > PARAMS_MAX {
        return Err(VaultError::ProviderError {
            reason: format!("its parameters have {params} bytes, at most {PARAMS_MAX} are stored"),
        });
    }
    out.extend_from_slice(&params.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&envelope.key_check);
    out.extend_from_slice(&derived.check);
    out.extend_from_slice(&salt);
    out.extend_from_slice(wrapped.expose());
    out.extend_from_slice(&tag);
    out.extend_from_slice(&prk.commitment(&[label, b"epoch-commit"])?);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&(sealed.len() as u64 + 16).to_le_bytes());
    debug_assert_eq!(out.len(), FIXED);
    out.extend_from_slice(&envelope.params);
    let tag =
        GcmKey::new(&prk.expand(&[label, b"keystore-body"])?)?.seal(nonce, &out, &mut sealed)?;
    out.extend_from_slice(&sealed);
    out.extend_from_slice(&tag);
    Ok(Base {
        bytes: out,
        chain: Chain::new(&prk, place, envelope.generation)?,
    })
}

/// The epoch key of this write. A root that does not fit means another epoch secret.
pub(crate) fn epoch_key(bytes: &[u8], form: Form, root: &Secret<32>) -> Result<Secret<32>> {
    let envelope = peek(bytes, form)?;
    let place = place(envelope.vault, envelope.epoch);
    let derived = Derived::new(envelope.version, root, &bytes[120..152])?;
    if !kdf::same(&derived.check, &bytes[88..120]) {
        let reason = format!(
            "epoch.key does not belong to this keystore of epoch {}",
            envelope.epoch
        );
        return Err(VaultError::KeyDestroyed { reason });
    }
    Secret::<32>::try_write(|out| {
        let opened = derived
            .wrap
            .open([0; 12], &place, &bytes[152..184], &bytes[184..200], out);
        opened.ok_or_else(|| corrupt("epoch key"))
    })
}

/// A base that was opened.
pub(crate) struct Opened {
    pub body: Body,
    /// Where the changes start.
    pub end: usize,
    /// What opens them; version 1 has none.
    pub chain: Option<Chain>,
}

/// Opens the base. The caller has checked the provider's key.
pub(crate) fn open(bytes: &[u8], form: Form, root: &Secret<32>) -> Result<Opened> {
    let envelope = peek(bytes, form)?;
    let epoch_key = epoch_key(bytes, form, root)?;
    let place = place(envelope.vault, envelope.epoch);
    let label = label(envelope.version);
    let prk = Prk::extract(&place, epoch_key.expose());
    if !kdf::same(
        &prk.commitment(&[label, b"epoch-commit"])?,
        &bytes[200..232],
    ) {
        return Err(corrupt("epoch key commitment"));
    }
    let at = FIXED + envelope.params.len();
    let end = usize::try_from(u64::from_le_bytes(take(bytes, 244)))
        .ok()
        .and_then(|body| body.checked_add(at))
        .filter(|end| *end <= bytes.len())
        .ok_or_else(|| corrupt("body length"))?;
    let (aad, sealed, tag) = (&bytes[..at], &bytes[at..end - 16], &bytes[end - 16..end]);
    let mut plain = Pages::new(sealed.len()).map_err(VaultError::memory(sealed.len()))?;
    let key = GcmKey::new(&prk.expand(&[label, b"keystore-body"])?)?;
    key.open(take(bytes, 232), aad, sealed, tag, &mut plain)
        .ok_or_else(|| corrupt("body"))?;
    let body = Body::decode(&plain, envelope.version)?;
    let chain = (envelope.version > 1)
        .then(|| Chain::new(&prk, place, envelope.generation))
        .transpose()?;
    Ok(Opened { body, end, chain })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            form: Form::Keystore,
            version: VERSION,
            vault: Uuid::from_u128(5),
            epoch: 2,
            generation: 9,
            provider: Kind::Passphrase,
            params: vec![8; 29],
            key_check: [7; 32],
        }
    }

    fn sealed(root: &Secret<32>) -> Vec<u8> {
        let body = Body::new().unwrap();
        let sealed = seal(&envelope(), root, &body, &Delta::default(), &body.audit);
        sealed.unwrap().bytes
    }

    #[test]
    fn every_byte_of_the_keystore_is_authenticated() {
        let root = Secret::random().unwrap();
        let bytes = sealed(&root);
        assert!(open(&bytes, Form::Keystore, &root).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bad, Form::Keystore, &root).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(
                open(&bytes[..len], Form::Keystore, &root).is_err(),
                "length {len}"
            );
        }
        // What follows the base are changes, which are not looked at here.
        let mut longer = bytes.clone();
        longer.push(0);
        let opened = open(&longer, Form::Keystore, &root).unwrap();
        assert_eq!(opened.end, bytes.len());
        assert!(open(&bytes, Form::Backup, &root).is_err());
    }

    #[test]
    fn the_readable_part_is_what_was_sealed() {
        let bytes = sealed(&Secret::random().unwrap());
        let seen = peek(&bytes, Form::Keystore).unwrap();
        assert_eq!(
            (seen.epoch, seen.generation, seen.provider),
            (2, 9, Kind::Passphrase)
        );
        assert_eq!(seen.params, [8; 29]);
    }

    #[test]
    fn another_root_is_told_apart_from_damage() {
        let bytes = sealed(&Secret::random().unwrap());
        let other = open(&bytes, Form::Keystore, &Secret::random().unwrap());
        assert!(matches!(other, Err(VaultError::KeyDestroyed { .. })));
    }

    #[test]
    fn two_writes_of_one_body_share_no_sealed_byte_run() {
        let root = Secret::random().unwrap();
        let (a, b) = (sealed(&root), sealed(&root));
        assert_ne!(a[88..200], b[88..200]);
        assert_ne!(a[281..], b[281..]);
    }
}
