//! Logical names: the keystore has the current one, the immutable header the one given at store.

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::{Entry, Kind};
use crate::format::name::check;
use crate::object::names;
use crate::system::failpoint;
use crate::vault::Vault;

impl Vault {
    /// Gives an object another name; its file stays as it is.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] for a name that is empty, longer than 1024 bytes, or has control characters;
    /// [`VaultError::NameTaken`] when another object has it and one of the two is a dataset.
    pub fn rename(&self, object: Uuid, name: &str) -> Result<()> {
        check(name)?;
        let mut exclusive = self.inner.exclusive()?;
        exclusive.live(object)?;
        names::learn(&mut exclusive);
        let mut record = exclusive.live(object)?;
        if record.kind == Kind::Rows {
            let what =
                format!("object {object} is the governance part of a dataset; rename the dataset");
            return Err(VaultError::BadRequest { what });
        }
        names::free(&exclusive, name, &record)?;
        let facts = json!({"object": object.to_string(), "epoch": exclusive.epoch});
        self.inner.log.record(Event::Rename, facts)?;
        failpoint::point("rename.logged")?;
        record.name = Some(name.to_owned());
        exclusive.put(object, Entry::Live(Box::new(record)));
        exclusive.commit()?;
        exclusive.done()
    }
}
