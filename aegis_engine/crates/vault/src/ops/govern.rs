//! Putting a vault under a policy bundle. From then on the owner's permit opens nothing.

use aegis_audit::Event;
use aegis_policy::{Action, Authority, Bundle, Permit};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::vault::Vault;
use crate::vault::proof;

impl Vault {
    /// The bundle that governs this vault, by its hash.
    pub fn bundle_hash(&self) -> Result<Option<[u8; 32]>> {
        Ok(self.inner.current()?.body.bundle)
    }

    /// Pins `bundle` inside the encrypted keystore, after an audit record with a proof. Ratchets the epoch, too: putting back
    /// an older keystore does not un-govern, and restoring an older backup replays the record.
    ///
    /// # Errors
    /// [`VaultError::Governed`] when another bundle governs it already.
    pub fn govern(&self, bundle: &Bundle) -> Result<()> {
        self.govern_by(bundle, None)
    }

    /// As [`govern`](Self::govern), in place of the bundle that granted `permit`, which must allow an export: whoever may take
    /// plaintext out by the old rules may give them up.
    ///
    /// # Errors
    /// [`VaultError::Governed`] when the permit is not such a one; [`VaultError::Permit`] when it has ended.
    pub fn govern_replacing(&self, bundle: &Bundle, permit: &Permit) -> Result<()> {
        self.govern_by(bundle, Some(permit))
    }

    fn govern_by(&self, bundle: &Bundle, permit: Option<&Permit>) -> Result<()> {
        let hash = bundle.hash();
        let mut exclusive = self.inner.exclusive()?;
        let known = exclusive.state().body.bundle;
        if let Some(old) = known.filter(|old| *old != hash) {
            let leave = permit.filter(|permit| {
                permit.authority() == Authority::Bundle(old) && permit.action() == Action::Export
            });
            let permit = leave.ok_or(VaultError::Governed)?;
            permit.redeem(self.inner.id, permit.object())?;
        }
        if known != Some(hash) {
            let facts = proof::govern_record(
                &hash,
                known.as_ref(),
                exclusive.epoch + 1,
                &exclusive.state().body.node,
            )?;
            self.inner.log.record(Event::Govern, facts)?;
            exclusive.delta.bundle = Some(hash);
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
        self.inner.writable()?;
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
