//! A dataset on its way to the place of another: the same name, time and attributes, under fresh keys.

use aegis_policy::{DatasetFacts, RowIndex};

use crate::dataset::described;
use crate::error::Result;
use crate::format::header::CHUNK_LOG2;
use crate::format::keystore::{KeyRecord, Kind};
use crate::format::meta::{Meta, ROWS_ATTR};
use crate::format::schema::Layout;
use crate::object::draft::ObjectRandomness;
use crate::object::writer::ObjectWriter;
use crate::ops::reencrypt::{Source, Swap};
use crate::vault::Vault;

/// Nothing of it is visible before its swap.
pub(crate) struct Anew {
    pub old: KeyRecord,
    pub sidecar: ObjectWriter,
    /// Takes the rows.
    pub data: ObjectWriter,
}

impl Anew {
    /// In place of the dataset of that record, whose metadata is `meta`.
    pub fn begin(vault: &Vault, old: &KeyRecord, mut meta: Meta, chunk_log2: u8) -> Result<Self> {
        let inner = &vault.inner;
        let about = Source::open(inner, old.rows.unwrap_or(old.object))?.meta();
        let fresh = ObjectRandomness::fresh()?;
        let sidecar = ObjectWriter::begin(inner, about, CHUNK_LOG2, Kind::Rows, None, fresh)?;
        let rows = sidecar.id();
        meta.attrs.insert(ROWS_ATTR.to_owned(), rows.to_string());
        let seed = ObjectRandomness {
            created: old.created,
            ..ObjectRandomness::fresh()?
        };
        let data = ObjectWriter::begin(inner, meta, chunk_log2, Kind::Data, Some(rows), seed)?;
        Ok(Self {
            old: old.clone(),
            sidecar,
            data,
        })
    }

    /// Complete and durable, with what governs it.
    pub fn finish(self, layout: &Layout, index: &RowIndex, facts: &DatasetFacts) -> Result<Swap> {
        let rows = described(self.sidecar, self.data.id(), layout, index, facts)?;
        let mut data = self.data.complete()?;
        data.record.name.clone_from(&self.old.name);
        Ok(Swap {
            old: self.old,
            new: vec![rows, data],
        })
    }
}
