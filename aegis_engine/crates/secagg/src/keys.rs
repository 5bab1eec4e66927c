//! Keys: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), Ed25519 (RFC 8032), AES-256-GCM (SP 800-38D).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey as PeerKey, X25519};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::SecAggError;
use crate::shamir::SHARE_LEN;

/// A secret of 32 bytes, wiped on drop.
pub(crate) type Key32 = Zeroizing<[u8; 32]>;
/// Two shares: of the self-mask seed, then of the round's mask secret.
pub(crate) const PAIR_LEN: usize = 2 * SHARE_LEN;
/// Nonce, ciphertext and tag of one sealed pair of shares.
pub(crate) const SEALED_LEN: usize = 12 + PAIR_LEN + 16;

/// Two shares sealed from one client to another.
pub(crate) type Sealed = [u8; SEALED_LEN];

const CHANNEL_ROOT: &[u8] = b"aegis/secagg/v2/root-of-channel";
const CHANNEL: &[u8] = b"aegis/secagg/v2/channel";
const PAIR_MASK: &[u8] = b"aegis/secagg/v2/pair-mask";
const SELF_MASK: &[u8] = b"aegis/secagg/v2/self-mask";
const SEED_CHECK: &[u8] = b"aegis/secagg/v2/seed-check";

/// What a client works on in a round, as a hash: the model it was sent, the task, the noise. See [`Bound`].
pub(crate) type Binding = [u8; 32];

/// Where a key belongs: nothing derived here opens another run, round or view of the cohort.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub run: u64,
    pub round: u64,
    /// Hash of everything all clients must have seen alike up to this step.
    pub transcript: [u8; 32],
}

impl Place {
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

    fn aad(&self, src: u64, dst: u64) -> [u8; 32] {
        let mut aad = [0; 32];
        for (place, part) in aad
            .chunks_exact_mut(8)
            .zip([self.run, self.round, src, dst])
        {
            place.copy_from_slice(&part.to_le_bytes());
        }
        aad
    }

    /// Seals two shares; the associated data names run, round, sender and receiver.
    pub(crate) fn seal(
        &self,
        key: &Key32,
        (src, dst): (u64, u64),
        pair: &[u8; PAIR_LEN],
    ) -> Result<Sealed, SecAggError> {
        let fail = |_| SecAggError::Crypto {
            what: "sealing a share",
        };
        let nonce = random::<12>()?;
        let mut sealed = [0; SEALED_LEN];
        sealed[..12].copy_from_slice(&*nonce);
        sealed[12..12 + PAIR_LEN].copy_from_slice(pair);
        let gcm = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).map_err(fail)?);
        let tag = gcm
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(self.aad(src, dst)),
                &mut sealed[12..12 + PAIR_LEN],
            )
            .map_err(fail)?;
        sealed[12 + PAIR_LEN..].copy_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens two shares that `src` sealed for `dst`.
    pub(crate) fn open(
        &self,
        key: &Key32,
        (src, dst): (u64, u64),
        sealed: &Sealed,
    ) -> Result<Zeroizing<[u8; PAIR_LEN]>, SecAggError> {
        let refused = SecAggError::ShareRejected { node: src };
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&sealed[..12]);
        let mut buffer = Zeroizing::new(sealed[12..].to_vec());
        let gcm = UnboundKey::new(&AES_256_GCM, &key[..])
            .map(LessSafeKey::new)
            .map_err(|_| SecAggError::Crypto {
                what: "opening a share",
            })?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let Ok(plain) = gcm.open_in_place(nonce, Aad::from(self.aad(src, dst)), &mut buffer) else {
            return Err(refused);
        };
        let mut pair = Zeroizing::new([0; PAIR_LEN]);
        pair.copy_from_slice(plain);
        Ok(pair)
    }
}

/// A place, and what the clients there work on. Masks are derived here and nowhere else, so that those of two clients who were
/// sent different models, tasks or noise do not cancel (against model inconsistency: Pasquini, Francati, Ateniese, CCS 2022).
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    place: Place,
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
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, b"aegis/secagg/v2")
        .extract(secret)
        .expand(&[info], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key[..]))
        .map_err(fail)?;
    Ok(key)
}

fn signer(seed: &[u8; 32]) -> Result<Ed25519KeyPair, SecAggError> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SecAggError::Crypto {
        what: "loading an identity key",
    })
}

/// The Ed25519 verification key of an identity seed.
pub(crate) fn identity(seed: &[u8; 32]) -> Result<[u8; 32], SecAggError> {
    let mut out = [0; 32];
    out.copy_from_slice(signer(seed)?.public_key().as_ref());
    Ok(out)
}

/// Signs with an identity seed.
pub(crate) fn sign(seed: &[u8; 32], message: &[u8]) -> Result<[u8; 64], SecAggError> {
    let signature = signer(seed)?
        .try_sign(message)
        .map_err(|_| SecAggError::Crypto { what: "signing" })?;
    let mut out = [0; 64];
    out.copy_from_slice(signature.as_ref());
    Ok(out)
}

/// Checks a signature of `node`.
pub(crate) fn verify(
    node: u64,
    identity: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), SecAggError> {
    UnparsedPublicKey::new(&ED25519, &identity[..])
        .verify(message, signature)
        .map_err(|_| SecAggError::BadSignature { node })
}

#[cfg(test)]
mod tests {
    use super::{Exchange, Place, channel_root, random};
    use crate::SecAggError;

    const PLACE: Place = Place {
        run: 1,
        round: 2,
        transcript: [3; 32],
    };

    #[test]
    fn both_ends_derive_the_same_mask_key_and_each_direction_its_own_channel_key() {
        let [a, b] = [(); 2].map(|()| Exchange::new(&random::<32>().unwrap()).unwrap());
        let (pa, pb) = (a.public_key().unwrap(), b.public_key().unwrap());
        let bound = PLACE.bound([5; 32]);
        let key = bound.pair_mask_key(&a, 1, 2, &pb).unwrap();
        assert_eq!(key, bound.pair_mask_key(&b, 2, 1, &pa).unwrap());
        let other = PLACE.bound([6; 32]);
        assert_ne!(key, other.pair_mask_key(&b, 2, 1, &pa).unwrap());
        let seed = [7; 32];
        assert_ne!(
            bound.self_mask_key(&seed, 1).unwrap(),
            other.self_mask_key(&seed, 1).unwrap()
        );
        let root = channel_root(1, &a, 1, 2, &pb).unwrap();
        assert_eq!(root, channel_root(1, &b, 2, 1, &pa).unwrap());
        assert_ne!(root, channel_root(2, &a, 1, 2, &pb).unwrap());
        let there = PLACE.channel_key(&root, (1, 2)).unwrap();
        assert_ne!(there, PLACE.channel_key(&root, (2, 1)).unwrap());
        let other = Place { round: 3, ..PLACE };
        assert_ne!(there, other.channel_key(&root, (1, 2)).unwrap());
        let split = Place {
            transcript: [4; 32],
            ..PLACE
        };
        assert_ne!(there, split.channel_key(&root, (1, 2)).unwrap());
    }

    #[test]
    fn points_of_small_order_are_refused() {
        let secret = Exchange::new(&random::<32>().unwrap()).unwrap();
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            let bound = PLACE.bound([0; 32]);
            let refused = bound.pair_mask_key(&secret, 1, 9, &point).unwrap_err();
            assert_eq!(refused, SecAggError::KeyAgreement { node: 9 });
        }
    }

    #[test]
    fn a_sealed_share_opens_only_in_its_place() {
        let key = random::<32>().unwrap();
        let sealed = PLACE.seal(&key, (1, 2), &[5; 80]).unwrap();
        assert_eq!(*PLACE.open(&key, (1, 2), &sealed).unwrap(), [5; 80]);
        assert!(PLACE.open(&key, (2, 1), &sealed).is_err());
        assert!(
            Place { round: 3, ..PLACE }
                .open(&key, (1, 2), &sealed)
                .is_err()
        );
        for place in 0..sealed.len() {
            let mut bad = sealed;
            bad[place] ^= 1;
            assert!(PLACE.open(&key, (1, 2), &bad).is_err());
        }
    }
}
