//! Heads: how far logs and ledgers outside the keystore have come, committed in it.

use crate::error::{Result, VaultError};
use crate::format::keystore::NamedHead;
use crate::format::name::NAME_MAX;
use crate::vault::Vault;

impl Vault {
    /// Commits durably that what is called `name` has `count` records, whose hash or MAC is `mac`: putting back an older
    /// one is found from then on, by comparing it with [`head`](Self::head). A lower count than the one known changes
    /// nothing: somebody was faster.
    ///
    /// # Errors
    /// [`VaultError::HeadForked`] when another `mac` is known for `count`: two histories go by one name.
    /// [`VaultError::BadRequest`] for a name that is empty, longer than 1024 bytes, or has control characters.
    pub fn commit_head(&self, name: &str, count: u64, mac: [u8; 32]) -> Result<()> {
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            let what = format!(
                "the name of a head has 1 to {NAME_MAX} bytes and no control characters; choose another"
            );
            return Err(VaultError::BadRequest { what });
        }
        let mut exclusive = self.inner.exclusive()?;
        let known = exclusive.state().body.heads.get(name).copied();
        match known {
            Some(known) if known.count > count => {}
            Some(known) if known.count == count && known.mac == mac => {}
            Some(known) if known.count == count => {
                return Err(VaultError::HeadForked {
                    name: name.to_owned(),
                    count,
                });
            }
            _ => {
                let head = NamedHead { count, mac };
                exclusive.delta.heads.insert(name.to_owned(), head);
                exclusive.commit()?;
            }
        }
        exclusive.done()
    }

    /// The head committed last under `name`.
    pub fn head(&self, name: &str) -> Result<Option<NamedHead>> {
        Ok(self.inner.current()?.body.heads.get(name).copied())
    }
}
