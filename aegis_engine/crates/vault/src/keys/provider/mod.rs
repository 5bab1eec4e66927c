//! Key providers go here, one file per kind: where the vault's key comes from, and who keeps the secret of an epoch.
//!
//! | provider | gives | a shred reaches |
//! |---|---|---|
//! | raw, key file, file descriptor, environment, command, keyring, callback | the same 32 bytes, once an open | `ratcheted-file` |
//! | passphrase | 32 bytes by Argon2id (RFC 9106), parameters in the keystore | `ratcheted-file` |
//! | PKCS#11, KMS | nothing: wraps, unwraps and destroys the secret of each epoch | `hardware`, `kms` |

mod command;
mod file;
pub(crate) mod passphrase;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod root;

use std::fmt::Debug;
use std::sync::Arc;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
pub use crate::format::kind::Kind;
use crate::level::Level;
use crate::secret::Secret;

pub use command::Command;
pub use passphrase::Passphrase;
#[cfg(feature = "pkcs11")]
pub use pkcs11::Pkcs11;
pub(crate) use root::{key_check, root};

/// Longest wrapped epoch secret.
pub(crate) const BLOB_MAX: usize = 4096;

/// How an old epoch secret ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// What the receipt must add, such as "pending until".
    pub note: Option<String>,
}

/// A source of keys. Implement it for a key service; the vault never asks for more than 32 bytes at a time.
///
/// Calls come from one thread at a time, under the vault's lock; `unwrap` once an epoch and process.
pub trait KeyProvider: Send + Sync + Debug {
    /// What it is.
    fn kind(&self) -> Kind;

    /// The strongest shred it makes possible.
    fn level(&self) -> Level {
        Level::RatchetedFile
    }

    /// Fresh parameters for a new vault or a rotation, stored in the clear: at most 1024 bytes.
    fn new_params(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// The provider's key; asked once an open. Providers that wrap return zeros: their secret is the epoch's alone.
    fn key(&self, params: &[u8]) -> Result<Secret<32>>;

    /// The epoch secret as `epoch.key` stores it, at most 4096 bytes.
    fn wrap(&self, _vault: Uuid, _epoch: u64, secret: &Secret<32>) -> Result<Zeroizing<Vec<u8>>> {
        Ok(Zeroizing::new(secret.expose().to_vec()))
    }

    /// The epoch secret from what [`wrap`](Self::wrap) gave.
    fn unwrap(&self, _vault: Uuid, _epoch: u64, blob: &[u8]) -> Result<Secret<32>> {
        Secret::from_slice(blob)
    }

    /// Makes `blob`s of that epoch useless for ever. Called again after a crash: a secret that is gone is a success.
    fn destroy(&self, _vault: Uuid, _epoch: u64) -> Result<Destroyed> {
        Ok(Destroyed::default())
    }
}

/// A shared [`KeyProvider`].
#[derive(Debug, Clone)]
pub struct Provider(Arc<dyn KeyProvider>);

impl Provider {
    /// Exactly 32 key bytes, copied.
    pub fn raw(key: &[u8]) -> Result<Self> {
        Ok(Self::new(Raw(Secret::from_slice(key)?)))
    }

    /// Any other provider.
    pub fn new(provider: impl KeyProvider + 'static) -> Self {
        Self(Arc::new(provider))
    }
}

impl std::ops::Deref for Provider {
    type Target = dyn KeyProvider;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

#[derive(Debug)]
struct Raw(Secret<32>);

impl KeyProvider for Raw {
    fn kind(&self) -> Kind {
        Kind::Key
    }

    fn key(&self, _params: &[u8]) -> Result<Secret<32>> {
        Ok(self.0.duplicate())
    }
}

/// An error of a provider.
pub(crate) fn refuse(reason: impl Into<String>) -> VaultError {
    VaultError::ProviderError {
        reason: reason.into(),
    }
}

/// 32 raw bytes, or 64 hex digits and an optional end of line. `found` is the length to report; `what` names the source.
pub(crate) fn parse_key(bytes: &[u8], found: usize, what: &str) -> Result<Secret<32>> {
    if bytes.len() == 32 {
        return Secret::from_slice(bytes);
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() != 64 {
        return Err(VaultError::WrongKeyLength {
            expected: 32,
            found,
        });
    }
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    Secret::try_write(|out| {
        for (byte, pair) in out.iter_mut().zip(text.as_chunks::<2>().0) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(refuse(format!(
                    "{what} has 64 characters that are not all hex digits; write the key anew"
                )));
            };
            *byte = high << 4 | low;
        }
        Ok(())
    })
}
