//! `epoch.key`: the secret that makes shredding real. Replaced at every ratchet; never back it up.
//!
//! ```text
//! 0 magic "AEGISEPK" | 8 u64 epoch | 16 vault id 16 | 32 secret 32          (64 bytes, mode 0600)
//! ```
//! A ratchet writes `epoch.key.next`, then the keystore of the new epoch, then destroys `epoch.key` and renames
//! `.next` over it. The epoch in the keystore decides what a crash left: see [`settle`].

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
use crate::fail;
use crate::files;
use crate::layout::Layout;
use crate::secret::Secret;

const MAGIC: &[u8; 8] = b"AEGISEPK";

/// The secret of one epoch.
pub(crate) struct EpochKey {
    pub epoch: u64,
    pub secret: Secret<32>,
}

impl EpochKey {
    pub fn random(epoch: u64) -> Result<Self> {
        Ok(Self {
            epoch,
            secret: Secret::random()?,
        })
    }

    fn encode(&self, vault: Uuid) -> Secret<64> {
        Secret::write(|out| {
            out[..8].copy_from_slice(MAGIC);
            out[8..16].copy_from_slice(&self.epoch.to_le_bytes());
            out[16..32].copy_from_slice(vault.as_bytes());
            out[32..].copy_from_slice(self.secret.expose());
        })
    }

    /// `None` when the file is missing, torn, overwritten or of another vault.
    fn read(path: &std::path::Path, vault: Uuid) -> Option<Self> {
        let bytes = Zeroizing::new(files::read(path, 64).ok()?);
        if bytes.len() != 64 || bytes[..8] != *MAGIC || bytes[16..32] != *vault.as_bytes() {
            return None;
        }
        let mut epoch = [0; 8];
        epoch.copy_from_slice(&bytes[8..16]);
        Some(Self {
            epoch: u64::from_le_bytes(epoch),
            secret: Secret::from_slice(&bytes[32..]).ok()?,
        })
    }

    /// The secret of a new vault.
    pub fn write_first(&self, layout: &Layout, vault: Uuid) -> Result<()> {
        files::replace(&layout.epoch_key(), self.encode(vault).expose())
    }

    /// Step 1 of a ratchet: the new secret, durable beside the old one.
    pub fn write_next(&self, layout: &Layout, vault: Uuid) -> Result<()> {
        files::write_synced(&layout.epoch_next(), self.encode(vault).expose())?;
        files::sync_parent(&layout.epoch_next())
    }
}

/// Step 3 of a ratchet: destroys the old secret and puts the new one in its place.
pub(crate) fn promote(layout: &Layout) -> Result<()> {
    files::overwrite(&layout.epoch_key())?;
    fail::point("ratchet.overwritten")?;
    files::rename(&layout.epoch_next(), &layout.epoch_key())
}

/// The secret of `epoch` by the files as they are; `Err` when neither file has it.
pub(crate) fn current(layout: &Layout, vault: Uuid, epoch: u64) -> Result<EpochKey> {
    for path in [layout.epoch_key(), layout.epoch_next()] {
        if let Some(key) = EpochKey::read(&path, vault).filter(|key| key.epoch == epoch) {
            return Ok(key);
        }
    }
    let found = EpochKey::read(&layout.epoch_key(), vault);
    let reason = match found {
        Some(key) => format!(
            "keystore.akv is of epoch {epoch}, epoch.key of epoch {}",
            key.epoch
        ),
        None => "epoch.key is missing or damaged".to_owned(),
    };
    Err(VaultError::KeyDestroyed { reason })
}

/// Finishes or undoes what a crash in a ratchet left, given the epoch of the keystore. Needs the exclusive lock.
pub(crate) fn settle(layout: &Layout, vault: Uuid, epoch: u64) -> Result<()> {
    let next = layout.epoch_next();
    if !next.exists() {
        return Ok(());
    }
    let of_keystore = |path| EpochKey::read(path, vault).is_some_and(|key| key.epoch == epoch);
    if of_keystore(&next) {
        // The keystore is already the new one: go on.
        promote(layout)
    } else if of_keystore(&layout.epoch_key()) {
        // The keystore is still the old one: the new secret never opened anything.
        files::overwrite(&next)?;
        files::remove(&next)?;
        files::sync_parent(&next)
    } else {
        Err(VaultError::KeyDestroyed {
            reason: format!("no epoch secret of epoch {epoch} is left"),
        })
    }
}
