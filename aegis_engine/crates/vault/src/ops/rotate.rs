//! Rotation: another key, or a fresh root under the same one. Only the keystore is written anew, no data.

use std::sync::Arc;

use aegis_audit::Event;
use serde_json::json;

use crate::error::Result;
use crate::keys::auth::Auth;
use crate::keys::provider::Provider;
use crate::system::failpoint;
use crate::vault::Vault;

impl Vault {
    /// Puts the keystore under a fresh root, and under `new` when it is given: the old key then opens nothing any more.
    /// Old copies of the keystore need the old key and the destroyed epoch secret. Gives the new epoch.
    pub fn rotate(&self, new: Option<&Provider>) -> Result<u64> {
        // Asked before anything changes: a passphrase takes its time, a token may be locked.
        let provider = new.map_or_else(|| self.inner.auth().provider.clone(), Clone::clone);
        let auth = match new {
            Some(_) => Arc::new(Auth::fresh(self.inner.id, &provider)?),
            None => self.inner.auth(),
        };
        let mut exclusive = self.inner.exclusive()?;
        let facts = json!({
            "provider": provider.kind().name(),
            "new_key": new.is_some(),
            "epoch": exclusive.epoch + 1,
        });
        self.inner.log.record(Event::Rotate, facts)?;
        failpoint::point("rotate.logged")?;
        exclusive.ratchet_to(auth)?;
        let epoch = exclusive.epoch;
        exclusive.done()?;
        Ok(epoch)
    }
}
