//! Key agreement and derivation: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869).

use aws_lc_rs::agreement::{self, UnparsedPublicKey as PeerKey, X25519};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

use crate::error::SecAggError;
use crate::secret::Key32;

const CHANNEL_ROOT: &[u8] = b"aegis/secagg/v2/root-of-channel";

const CHANNEL: &[u8] = b"aegis/secagg/v2/channel";

const PAIR_MASK: &[u8] = b"aegis/secagg/v2/pair-mask";

const SELF_MASK: &[u8] = b"aegis/secagg/v2/self-mask";

const SEED_CHECK: &[u8] = b"aegis/secagg/v2/seed-check";

/// What a client works on in a round, as a hash: the model it was sent, the task, the noise. See [`Bound`].
pub(crate) type Binding = [u8; 32];

/// Where a key belongs: nothing derived here opens another run, round or view of the cohort.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    pub run: u64,
    pub round: u64,
    /// Hash of everything all clients must have seen alike up to this step.
    pub transcript: [u8; 32],
}

impl Position {
    fn info(&self, domain: &[u8], a: u64, b: u64, extra: u64) -> Vec<u8> {
        // domains have different lengths but fixed-size fields follow, and none is a prefix of another
        let mut info = domain.to_vec();
        for part in [self.run, self.round, a.min(b), a.max(b), extra] {
            info.extend_from_slice(&part.to_le_bytes());
        }
        info.extend_from_slice(&self.transcript);
        info
    }

    /// The key that seals shares from `src` to `dst` in this place, of the root of their channel.
    pub(crate) fn channel_key(
        &self,
        root: &Key32,
        (src, dst): (u64, u64),
    ) -> Result<Key32, SecAggError> {
        expand(&root[..], &self.info(CHANNEL, src, dst, src))
    }

    /// This place for what was worked on there: the only way to the keys of masks.
    pub(crate) const fn bound(self, binding: Binding) -> Bound {
        Bound {
            place: self,
            binding,
        }
    }

    /// By which the server knows the seed of a client when it has put it together from shares. It says nothing about the
    /// mask's key: both are outputs of HKDF for different inputs.
    pub(crate) fn seed_check(&self, seed: &[u8; 32], node: u64) -> Result<[u8; 32], SecAggError> {
        Ok(*expand(seed, &self.info(SEED_CHECK, node, node, 0))?)
    }
}

/// A place, and what the clients there work on. Masks are derived here and nowhere else, so that those of two clients who were
/// sent different models, tasks or noise do not cancel (against model inconsistency: Pasquini, Francati, Ateniese, CCS 2022).
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    place: Position,
    binding: Binding,
}

impl Bound {
    fn info(&self, domain: &[u8], a: u64, b: u64) -> Vec<u8> {
        let mut info = self.place.info(domain, a, b, 0);
        info.extend_from_slice(&self.binding);
        info
    }

    /// The key of the mask shared by `me` and `peer`, the same from both ends where both work on the same.
    pub(crate) fn pair_mask_key(
        &self,
        secret: &Exchange,
        me: u64,
        peer: u64,
        peer_key: &[u8; 32],
    ) -> Result<Key32, SecAggError> {
        secret.agree(peer, peer_key, &self.info(PAIR_MASK, me, peer))
    }

    /// The key of a client's self mask.
    pub(crate) fn self_mask_key(&self, seed: &[u8; 32], node: u64) -> Result<Key32, SecAggError> {
        expand(seed, &self.info(SELF_MASK, node, node))
    }
}

/// The root of a channel for a run, the same from both ends: one key agreement a peer and run, however many rounds.
pub(crate) fn channel_root(
    run: u64,
    secret: &Exchange,
    me: u64,
    peer: u64,
    peer_key: &[u8; 32],
) -> Result<Key32, SecAggError> {
    let mut info = CHANNEL_ROOT.to_vec();
    for part in [run, me.min(peer), me.max(peer)] {
        info.extend_from_slice(&part.to_le_bytes());
    }
    secret.agree(peer, peer_key, &info)
}

/// SHA-256 over parts, the domain first; parts are fixed-size or last.
pub(crate) fn hash(domain: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Digest::new(&SHA256);
    digest.update(domain);
    for part in parts {
        digest.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(digest.finish().as_ref());
    out
}

/// An X25519 secret ready for agreements. Loading one computes its public key: once for all of a client's neighbours.
pub(crate) struct Exchange(agreement::PrivateKey);

impl Exchange {
    pub(crate) fn new(secret: &[u8; 32]) -> Result<Self, SecAggError> {
        let loaded = agreement::PrivateKey::from_private_key(&X25519, secret);
        loaded.map(Self).map_err(|_| SecAggError::Crypto {
            what: "loading an X25519 key",
        })
    }

    pub(crate) fn public_key(&self) -> Result<[u8; 32], SecAggError> {
        let fail = |_| SecAggError::Crypto {
            what: "computing an X25519 public key",
        };
        let public = self.0.compute_public_key().map_err(fail)?;
        let mut out = [0; 32];
        out.copy_from_slice(public.as_ref());
        Ok(out)
    }

    fn agree(&self, peer: u64, peer_key: &[u8; 32], info: &[u8]) -> Result<Key32, SecAggError> {
        let refused = SecAggError::KeyAgreement { node: peer };
        agreement::agree(
            &self.0,
            PeerKey::new(&X25519, &peer_key[..]),
            refused.clone(),
            |shared| {
                // RFC 7748 section 6.1: a point of small order gives zero; checked without an early exit
                if shared.iter().fold(0, |seen, byte| seen | byte) == 0 {
                    return Err(refused);
                }
                expand(shared, info)
            },
        )
    }
}

/// The X25519 public key of a raw 32-byte secret (clamped inside, RFC 7748 section 5).
pub(crate) fn public_key(secret: &[u8; 32]) -> Result<[u8; 32], SecAggError> {
    Exchange::new(secret)?.public_key()
}

fn expand(secret: &[u8], info: &[u8]) -> Result<Key32, SecAggError> {
    let fail = |_| SecAggError::Crypto {
        what: "deriving a key",
    };
    Key32::filled(|key| {
        Salt::new(HKDF_SHA256, b"aegis/secagg/v2")
            .extract(secret)
            .expand(&[info], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key[..]))
            .map_err(fail)
    })
}
