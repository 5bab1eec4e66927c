//! Blocks of people: which of a fixed number each permitted row belongs to, by whom it is about and by nothing else.

use aegis_policy::{Permit, PermitError, Scope};

use crate::error::{Result, VaultError};
use crate::vault::Vault;

/// Most blocks, as a session of blocks has.
const MOST: u32 = 1 << 16;

impl Vault {
    /// The block of each row that the permit opens, in the order in which the rows are read.
    ///
    /// # Guarantees
    /// - A block is that of the row's person: HMAC-SHA-256 of the pseudonym under a key of this vault, modulo the number of
    ///   blocks. All rows of a person are in one block.
    /// - Neither other people, other rows nor the round have a part in it.
    /// - Without the vault's key it cannot be predicted.
    ///
    /// # Errors
    /// The permit has ended, is for an object that is no dataset or for no rows, or there are not 1 to 65 536 blocks.
    pub fn blocks(&self, permit: &Permit, blocks: u32) -> Result<Vec<u32>> {
        if !(1..=MOST).contains(&blocks) {
            return Err(VaultError::BadRequest {
                what: "people are assigned to 1 to 65 536 blocks".into(),
            });
        }
        self.admit(permit)?;
        let dataset = self.dataset(permit.object())?;
        let Scope::Rows { rows, .. } = permit.scope() else {
            return Err(PermitError::Scope {
                permit: permit.id(),
                what: "whole objects, of which no row is somebody's".to_owned(),
            }
            .into());
        };
        let keyed = self.macs("aegis/v1/blocks")?;
        rows.iter()
            .map(|row| {
                let person = dataset.index.subjects.get(row as usize);
                let person = person.ok_or_else(|| PermitError::Scope {
                    permit: permit.id(),
                    what: "rows this dataset does not have".to_owned(),
                })?;
                let mut first = [0; 16];
                first.copy_from_slice(&keyed.of(person)[..16]);
                // Of 2^128 values no block has more than one in 2^112 above its share.
                #[allow(clippy::cast_possible_truncation, reason = "below 2^16")]
                let block = (u128::from_be_bytes(first) % u128::from(blocks)) as u32;
                Ok(block)
            })
            .collect()
    }
}
