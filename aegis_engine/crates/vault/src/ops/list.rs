//! What is in the vault: names and attributes, from authenticated headers.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::{Body, KeyRecord, Kind};
use crate::format::meta::{ObjectInfo, ROWS_ATTR, Sealed};
use crate::object::file::ObjectFile;
use crate::vault::{Inner, Vault};

impl Inner {
    pub fn describe(&self, body: &Body, record: &KeyRecord) -> Result<ObjectInfo> {
        let file = ObjectFile::open(self, record)?;
        let keys = file.locked(self, body, record).header_keys()?;
        file.check_size()?;
        let header = &file.header;
        let Sealed {
            name,
            media_type,
            created,
            subject,
            attrs,
        } = Sealed::decode(&keys.open_meta(header)?, record.object)?;
        Ok(ObjectInfo {
            id: record.object,
            name: record.name.clone().unwrap_or(name),
            media_type,
            subject,
            attrs,
            created,
            bytes: header.length,
            chunks: header.chunks,
            chunk_bytes: header.chunk() as u64,
        })
    }
}

impl Vault {
    /// Every stored object, by id; the governance rows of datasets are not listed.
    pub fn list(&self) -> Result<Vec<ObjectInfo>> {
        self.inner.looking(|state| {
            let data = state
                .body
                .records()
                .filter(|record| record.kind == Kind::Data);
            data.map(|record| self.inner.describe(&state.body, record))
                .collect()
        })
    }

    /// The name an object was stored under; a rename leaves it as it is.
    pub(crate) fn stored_name(&self, object: Uuid) -> Result<String> {
        let state = self.inner.current()?;
        let record = state.body.live(object)?;
        let file = ObjectFile::open(&self.inner, record)?;
        let keys = file
            .locked(&self.inner, &state.body, record)
            .header_keys()?;
        Ok(Sealed::decode(&keys.open_meta(&file.header)?, object)?.name)
    }

    /// One object.
    pub fn stat(&self, object: Uuid) -> Result<ObjectInfo> {
        self.inner
            .looking(|state| self.inner.describe(&state.body, state.body.live(object)?))
    }

    /// The data sets, by name.
    ///
    /// # Errors
    /// [`VaultError::NameAmbiguous`] when the name of one is another object's, too, whatever that is: which of them is meant
    /// is not for chance to decide.
    pub fn datasets(&self) -> Result<BTreeMap<String, Uuid>> {
        let mut named: BTreeMap<String, (bool, Vec<Uuid>)> = BTreeMap::new();
        for object in self.list()? {
            let (is_set, all) = named.entry(object.name).or_default();
            *is_set |= object.attrs.contains_key(ROWS_ATTR);
            all.push(object.id);
        }
        let sets = named.into_iter().filter(|(_, (is_set, _))| *is_set);
        sets.map(|(name, (_, objects))| match objects[..] {
            [one] => Ok((name, one)),
            _ => Err(VaultError::NameAmbiguous { name, objects }),
        })
        .collect()
    }
}
