//! The cost model of `docs/SECURE_AGGREGATION.md`, on single operations measured here.

use std::fmt;
use std::time::Instant;

use aegis_secagg::Shape;

fn each(operation: impl Fn()) -> f64 {
    const TIMES: u32 = 400;
    let start = Instant::now();
    (0..TIMES).for_each(|_| operation());
    start.elapsed().as_secs_f64() / f64::from(TIMES)
}

/// Seconds of single operations on this machine.
pub struct Primitives {
    /// A key agreement.
    agree: f64,
    /// A signature check.
    verify: f64,
    /// A key derived, and two shares sealed under it.
    seal: f64,
    /// A multiplication in the field of the shares.
    multiply: f64,
    /// Reading one advert of a cohort: hashed, parsed, its keys sorted among the others.
    advert: f64,
    /// Masking a byte.
    mask: f64,
}

/// A multiplication modulo 2^61 - 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half, and 61 bits of the high one"
)]
fn square(value: u64) -> u64 {
    const P: u64 = (1 << 61) - 1;
    let product = u128::from(value) * u128::from(value);
    let sum = (product as u64 & P) + (product >> 61) as u64;
    if sum >= P { sum - P } else { sum }
}

impl Primitives {
    /// Measures them; `request` is the share request of a cohort of so many adverts.
    pub fn measured(request: &[u8], adverts: u32) -> Self {
        use aws_lc_rs::{aead, agreement, digest, hkdf, signature};
        use signature::KeyPair;
        let secret =
            agreement::PrivateKey::from_private_key(&agreement::X25519, &[7; 32]).expect("a key");
        let public = secret.compute_public_key().expect("a point");
        let peer = || agreement::UnparsedPublicKey::new(&agreement::X25519, public.as_ref());
        let signer = signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let proof = signer.sign(b"message");
        let verifier =
            signature::UnparsedPublicKey::new(&signature::ED25519, signer.public_key().as_ref());
        let nonce = || aead::Nonce::assume_unique_for_key([0; 12]);
        let gcm = |key: &[u8]| {
            aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("a key"))
        };
        let key = gcm(&[7; 32]);
        let block = std::cell::RefCell::new(vec![0u8; 16384]);
        Self {
            agree: each(|| agreement::agree(&secret, peer(), (), |_| Ok(())).expect("agreement")),
            verify: each(|| {
                let found = verifier.verify(b"message", proof.as_ref());
                found.expect("a signature");
            }),
            seal: each(|| {
                let mut key = [0; 32];
                hkdf::Salt::new(hkdf::HKDF_SHA256, b"salt")
                    .extract(&[7; 32])
                    .expand(&[&[1; 96]], hkdf::HKDF_SHA256)
                    .and_then(|okm| okm.fill(&mut key))
                    .expect("a key");
                let mut pair = [0; 80];
                let sealed =
                    gcm(&key).seal_in_place_separate_tag(nonce(), aead::Aad::empty(), &mut pair);
                let _tag = sealed.expect("a seal");
            }),
            // five at a time, as the limbs of a secret
            multiply: each(|| {
                let mut limbs = std::hint::black_box([3u64, 5, 7, 11, 13]);
                for _ in 0..200 {
                    limbs = limbs.map(square);
                }
                std::hint::black_box(limbs);
            }) / 1000.0,
            advert: each(|| {
                // two sorts of 32-byte keys, which are uniform: as many as there are adverts
                let mut keys: Vec<[u8; 32]> = (0..u64::from(adverts))
                    .map(|at| {
                        let at = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                        [at, at, at, at].concat().try_into().expect("32 bytes")
                    })
                    .collect();
                let mut again = keys.clone();
                keys.sort_unstable();
                again.sort_unstable();
                std::hint::black_box((keys, again));
                std::hint::black_box(digest::digest(&digest::SHA256, request));
            }) / f64::from(adverts),
            mask: each(|| {
                let aad = aead::Aad::empty();
                let sealed = key.seal_in_place_separate_tag(nonce(), aad, &mut block.borrow_mut());
                let _tag = sealed.expect("a keystream");
            }) / 16384.0,
        }
    }

    /// The cost model of `docs/SECURE_AGGREGATION.md`, by step, in seconds of one core. `n` clients in all, `shared` shared,
    /// `survived` survived.
    pub fn predict(&self, shape: &Shape, vector: f64, [n, shared, survived]: [f64; 3]) -> Model {
        let (k, t) = (f64::from(shape.degree), f64::from(shape.threshold));
        // five limbs of two secrets
        let sharing = 10.0 * k * t * self.multiply;
        let pair = self.agree + self.mask * vector;
        vec![
            (
                "share",
                shared * (n * self.advert + k * (self.agree + self.verify + self.seal) + sharing),
            ),
            (
                "masked input",
                survived * (k * (self.verify + self.seal + pair) + self.mask * vector),
            ),
            ("commit", survived * self.verify),
            ("unmask", survived * k * self.verify),
            (
                "sum on the server",
                (shared - survived) * k * (survived / n) * pair + survived * self.mask * vector,
            ),
        ]
    }
}

/// Steps and their seconds.
pub type Model = Vec<(&'static str, f64)>;

impl fmt::Display for Primitives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "key agreement {:.1} us, signature check {:.1} us, seal {:.2} us, multiplication {:.2} ns, advert read {:.2} us, \
             masks {:.1} GB/s",
            self.agree * 1e6,
            self.verify * 1e6,
            self.seal * 1e6,
            self.multiply * 1e9,
            self.advert * 1e6,
            1e-9 / self.mask
        )
    }
}
