//! Signatures of identities: Ed25519 (RFC 8032).

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::error::SecAggError;

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
