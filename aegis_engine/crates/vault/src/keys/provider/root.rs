//! The root of an epoch: made of the provider's key and the secret of the epoch.

use uuid::Uuid;

use crate::error::Result;
use crate::kdf::Prk;
use crate::secret::Secret;

/// Tells a wrong key from a damaged keystore before anything is opened.
pub(crate) fn key_check(vault: Uuid, key: &Secret<32>) -> Result<[u8; 32]> {
    Prk::extract(vault.as_bytes(), key.expose()).commitment(&[b"aegis/v1/provider-check"])
}

/// Neither the key nor the epoch secret opens anything alone.
pub(crate) fn root(
    vault: Uuid,
    key: &Secret<32>,
    epoch: u64,
    epoch_secret: &Secret<32>,
) -> Result<Secret<32>> {
    let both = Secret::<64>::write(|out| {
        out[..32].copy_from_slice(key.expose());
        out[32..].copy_from_slice(epoch_secret.expose());
    });
    Prk::extract(vault.as_bytes(), both.expose()).expand(&[b"aegis/v1/root", &epoch.to_le_bytes()])
}
