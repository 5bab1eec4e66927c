//! Logical names: the keystore has the current one, the immutable header the one given at store.

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
        exclusive.body.live(object)?;
        self.inner.log.append(
            &json!({"event": "rename", "object": object.to_string(), "epoch": exclusive.epoch}),
        )?;
        fail::point("rename.logged")?;
        if let Some(Entry::Live(record)) = exclusive.body.entries.get_mut(&object) {
            record.name = Some(name.to_owned());
        }
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
