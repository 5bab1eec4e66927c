//! What opens the keystore: a provider, its stored parameters, its key.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::envelope::{self, Envelope, Form};
use crate::format::paths::Paths;
use crate::kdf;
use crate::keys::epoch::{self, EpochKey};
use crate::keys::provider::{self, Kind, Provider};
use crate::secret::Secret;

pub(crate) struct Auth {
    pub provider: Provider,
    params: Vec<u8>,
    key: Secret<32>,
    check: [u8; 32],
    /// A token or key service is asked once an epoch, not at every reload of the keystore.
    unwrapped: Mutex<Option<EpochKey>>,
}

impl Auth {
    /// For a new vault, a rotation, a backup: fresh parameters.
    pub fn fresh(vault: Uuid, provider: &Provider) -> Result<Self> {
        Self::make(vault, provider, provider.new_params()?)
    }

    /// For the keystore that `envelope` is of. `path` is for the message.
    pub fn of(envelope: &Envelope, provider: &Provider, path: &Path) -> Result<Self> {
        if envelope.provider != provider.kind() {
            return Err(VaultError::WrongProvider {
                needed: envelope.provider.name(),
                given: provider.kind().name(),
            });
        }
        let auth = Self::make(envelope.vault, provider, envelope.params.clone())?;
        if !auth.fits(envelope) {
            return Err(VaultError::WrongKey {
                path: path.to_path_buf(),
            });
        }
        Ok(auth)
    }

    fn make(vault: Uuid, provider: &Provider, params: Vec<u8>) -> Result<Self> {
        let key = provider.key(&params)?;
        Ok(Self {
            provider: provider.clone(),
            params,
            check: provider::key_check(vault, &key)?,
            key,
            unwrapped: Mutex::default(),
        })
    }

    /// Whether the keystore is still under this key.
    pub fn fits(&self, envelope: &Envelope) -> bool {
        envelope.provider == self.provider.kind()
            && envelope.params == self.params
            && kdf::same(&self.check, &envelope.key_check)
    }

    /// What the next keystore says of its key.
    pub fn envelope(&self, form: Form, vault: Uuid, epoch: u64, generation: u64) -> Envelope {
        Envelope {
            form,
            version: envelope::VERSION,
            vault,
            epoch,
            generation,
            provider: self.provider.kind(),
            params: self.params.clone(),
            key_check: self.check,
        }
    }

    /// Whether a token or service keeps the secrets of the epochs.
    pub fn wraps(&self) -> bool {
        matches!(self.provider.kind(), Kind::Pkcs11 | Kind::Kms)
    }

    /// The root of that epoch.
    pub fn root(&self, vault: Uuid, epoch_key: &EpochKey) -> Result<Secret<32>> {
        provider::root(vault, &self.key, epoch_key.epoch, &epoch_key.secret)
    }

    /// The epoch secret by the files as they are. A plain secret is read anew, so that its loss is noticed.
    pub fn epoch_key(&self, paths: &Paths, vault: Uuid, epoch: u64) -> Result<EpochKey> {
        let wrapped = self.wraps();
        let mut known = self
            .unwrapped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.as_ref().filter(|key| wrapped && key.epoch == epoch) {
            return Ok(EpochKey {
                epoch,
                secret: key.secret.duplicate(),
            });
        }
        let found = epoch::current(paths, vault, epoch, &self.provider)?;
        if wrapped {
            *known = Some(EpochKey {
                epoch,
                secret: found.secret.duplicate(),
            });
        }
        Ok(found)
    }
}
