//! Putting a vault under a policy bundle. From then on the owner's permit opens nothing.

use aegis_policy::{Action, Bundle, Permit};
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::vault::{Vault, hex};

impl Vault {
    /// The bundle that governs this vault, by its hash.
    pub fn bundle_hash(&self) -> Result<Option<[u8; 32]>> {
        Ok(self.inner.current()?.body.bundle)
    }

    /// Pins `bundle` inside the encrypted keystore, after an audit record. Ratchets the epoch, too: putting back an
    /// older keystore does not un-govern.
    pub fn govern(&self, bundle: &Bundle) -> Result<()> {
        let hash = bundle.hash();
        let mut exclusive = self.inner.exclusive()?;
        if exclusive.body.bundle != Some(hash) {
            self.inner.log.append(&json!({
                "event": "govern",
                "bundle": hex(&hash),
                "previous": exclusive.body.bundle.map(|previous| hex(&previous)),
                "epoch": exclusive.epoch + 1,
            }))?;
            exclusive.body.bundle = Some(hash);
            exclusive.ratchet()?;
        }
        exclusive.done()
    }

    /// The owner's permit for a whole object, after its audit record.
    ///
    /// # Errors
    /// [`VaultError::PermitRequired`] when the vault has a bundle.
    pub fn owner_permit(&self, object: Uuid, action: Action) -> Result<Permit> {
        let governed = {
            let state = self.inner.current()?;
            state.body.live(object)?;
            state.body.bundle.is_some()
        };
        if governed {
            return Err(VaultError::PermitRequired {
                object,
                reason: "the owner policy is off",
            });
        }
        Ok(aegis_policy::owner_permit(
            self.inner.id,
            object,
            action,
            &self.inner.log,
        )?)
    }
}
