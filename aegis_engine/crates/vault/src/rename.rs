//! Logical names: the keystore has the current one, the immutable header the one given at store.

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::fail;
use crate::keystore::{Entry, NAME_MAX};
use crate::vault::Vault;

impl Vault {
    /// Gives an object another name; its file stays as it is.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] for a name that is empty or longer than 1024 bytes.
    pub fn rename(&self, object: Uuid, name: &str) -> Result<()> {
        check_name(name)?;
        let mut exclusive = self.inner.exclusive()?;
        let mut record = exclusive.live(object)?;
        let facts = json!({"object": object.to_string(), "epoch": exclusive.epoch});
        self.inner.log.record(Event::Rename, facts)?;
        fail::point("rename.logged")?;
        record.name = Some(name.to_owned());
        exclusive.put(object, Entry::Live(Box::new(record)));
        exclusive.commit()?;
        exclusive.done()
    }
}

/// A name, or the label of a copy.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        let what = format!(
            "a name has 1 to {NAME_MAX} bytes, this one has {}; choose another",
            name.len()
        );
        return Err(VaultError::BadRequest { what });
    }
    Ok(())
}
