//! Storing and looking up a dataset: records in one object, governance metadata in a second one; both appear, or none.

use std::sync::Arc;

use aegis_policy::{ConsentError, DatasetFacts, PolicyError, Role, RowIndex};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::dataset::consents::Granted;
use crate::error::{Result, VaultError};
use crate::format::chunk;
use crate::format::governance::{Dataset, ROWS_ATTR, ROWS_MEDIA_TYPE, decode, encode};
use crate::format::header::CHUNK_LOG2;
use crate::format::keystore::{Kind, Record};
use crate::format::meta::Meta;
use crate::format::schema::{Layout, RecordSchema};
use crate::object::bulk;
use crate::object::draft::Seed;
use crate::object::file::ObjectFile;
use crate::object::writer::ObjectWriter;
use crate::ops::names;
use crate::ops::store;
use crate::vault::{Inner, Vault};

/// Media type of records, unless the caller names another.
const RECORDS_MEDIA_TYPE: &str = "application/vnd.aegis.records";
/// 64 KiB: shuffled batches touch many chunks, and the cipher is as fast as with 1 MiB.
const RECORDS_CHUNK_LOG2: u8 = 16;

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

impl Vault {
    /// Stores `data`, whole records back to back, with one row of `index` a record. Both objects appear, or none.
    pub fn store_records(
        &self,
        meta: Meta,
        schema: &RecordSchema,
        data: &[u8],
        index: &RowIndex,
        facts: &DatasetFacts,
    ) -> Result<Uuid> {
        self.store_records_granting(meta, schema, data, index, facts, &[])
            .map(|(id, _)| id)
    }

    /// As [`store_records`](Self::store_records), with consent to `purposes` of everybody who never withdrew it: data and
    /// consent appear together, or neither.
    ///
    /// # Errors
    /// AEG-P016 when rows are of erased people: nothing is stored.
    pub fn store_records_granting(
        &self,
        mut meta: Meta,
        schema: &RecordSchema,
        data: &[u8],
        index: &RowIndex,
        facts: &DatasetFacts,
        purposes: &[String],
    ) -> Result<(Uuid, Vec<Granted>)> {
        meta.check()?;
        schema.check()?;
        index.check()?;
        facts.check()?;
        let rows = index.len();
        if data.len() as u64 != u64::from(rows) * schema.record_len() as u64 {
            return Err(bad(format!(
                "{} bytes are not {rows} records of {} bytes; make data, schema and row index agree",
                data.len(),
                schema.record_len()
            )));
        }
        same_columns(schema.columns.iter().map(|column| &column.name), facts)?;
        if meta.media_type.is_empty() {
            RECORDS_MEDIA_TYPE.clone_into(&mut meta.media_type);
        }
        let facts = self.of_lineage(&meta.name, facts, index)?;
        let mut pair = Pair::begin(&self.inner, meta, RECORDS_CHUNK_LOG2)?;
        pair.data.append(data)?;
        pair.finish(
            self,
            &Layout::Records(schema.clone()),
            index,
            &facts,
            purposes,
        )
    }

    /// The facts with the role and the lineages that a new dataset of these people has.
    pub(crate) fn of_lineage(
        &self,
        name: &str,
        facts: &DatasetFacts,
        index: &RowIndex,
    ) -> Result<DatasetFacts> {
        let erased = self.consent()?.erased(&index.subjects);
        let erased = erased.map_err(PolicyError::from)?;
        let rows = erased.iter().filter(|erased| **erased).count();
        if rows > 0 {
            return Err(PolicyError::from(ConsentError::ErasedRows { rows }).into());
        }
        let mut facts = facts.clone();
        facts.role = facts.role.max(Role::of_name(name));
        facts.lineages = self.claim_lineages(facts.role, &index.subjects, &facts.lineages)?;
        Ok(facts)
    }

    /// Governance metadata of a dataset: what a policy decision needs. No permit, no training data. It is decrypted once in a
    /// process, as long as its file stays the one that the keystore knows.
    pub fn dataset(&self, object: Uuid) -> Result<Arc<Dataset>> {
        let not = |reason: &str| VaultError::NotRecords {
            object,
            reason: reason.to_owned(),
        };
        let (file, key, length, mac) = self.inner.looking(|state| {
            let record = state.body.live(object)?;
            let rows = record
                .rows
                .ok_or_else(|| not("it was not stored as records"))?;
            let rows: &Record = state.body.live(rows)?;
            let file = ObjectFile::open(&self.inner, rows)?;
            let key = file.locked(&self.inner, &state.body, rows).rows()?;
            Ok((file, key, record.length, rows.header_mac))
        })?;
        file.check_size()?;
        if let Some(known) = self.inner.datasets.known(object, &mac) {
            return Ok(known);
        }
        let mut content = Zeroizing::new(vec![
            0;
            usize::try_from(file.header.length)
                .unwrap_or(usize::MAX)
        ]);
        let mut sealed = bulk::scratch(file.header.widest())?;
        for (index, plain) in (0..file.header.chunks).zip(content.chunks_mut(file.header.chunk())) {
            let sealed = file.sealed(index, &mut sealed)?;
            chunk::open(&key, index, file.is_last(index), sealed, plain)
                .ok_or_else(|| file.chunk_failed(index))?;
        }
        let dataset =
            decode(object, &content).ok_or_else(|| not("its governance rows do not parse"))?;
        let fits = match &dataset.layout {
            Layout::Records(schema) => {
                schema.check()?;
                length == u64::from(dataset.rows) * schema.record_len() as u64
            }
            Layout::Table(schema) => schema.rows == dataset.rows,
        };
        if !fits {
            return Err(not("its governance rows do not fit its length"));
        }
        let dataset = Arc::new(dataset);
        let state = self.inner.known();
        self.inner
            .datasets
            .keep(mac, &dataset, |object| state.body.live(*object).is_ok());
        Ok(dataset)
    }
}

/// Facts must list the columns there are.
pub(crate) fn same_columns<'c>(
    columns: impl Iterator<Item = &'c String>,
    facts: &DatasetFacts,
) -> Result<()> {
    if columns.eq(&facts.columns) {
        return Ok(());
    }
    Err(bad(
        "the columns of the facts are not the schema's, in order; make them agree".to_owned(),
    ))
}

/// A dataset's two objects under way: both appear, or none.
pub(crate) struct Pair {
    inner: Arc<Inner>,
    sidecar: ObjectWriter,
    /// Takes the rows.
    pub data: ObjectWriter,
}

impl Pair {
    pub fn begin(inner: &Arc<Inner>, mut meta: Meta, chunk_log2: u8) -> Result<Self> {
        names::look(inner, &meta.name, names::Asker::Dataset)?;
        let mut about = Meta::named(meta.name.clone());
        ROWS_MEDIA_TYPE.clone_into(&mut about.media_type);
        let seed = Seed::fresh()?;
        let sidecar = ObjectWriter::begin(inner, about, CHUNK_LOG2, Kind::Rows, None, seed)?;
        let rows = sidecar.id();
        meta.attrs.insert(ROWS_ATTR.to_owned(), rows.to_string());
        let seed = Seed::fresh()?;
        let data = ObjectWriter::begin(inner, meta, chunk_log2, Kind::Data, Some(rows), seed)?;
        Ok(Self {
            inner: Arc::clone(inner),
            sidecar,
            data,
        })
    }

    /// Writes the governance rows and makes both objects durable and visible.
    pub fn finish(
        mut self,
        vault: &Vault,
        layout: &Layout,
        index: &RowIndex,
        facts: &DatasetFacts,
        purposes: &[String],
    ) -> Result<(Uuid, Vec<Granted>)> {
        let id = self.data.id();
        self.sidecar.append(&encode(id, layout, facts, index)?)?;
        let objects = vec![self.sidecar.complete()?, self.data.complete()?];
        let mut granted = Vec::new();
        store::commit_with(&self.inner, objects, |exclusive| {
            granted = vault.grant_with_data(exclusive, &index.subjects, purposes)?;
            Ok(())
        })?;
        Ok((id, granted))
    }
}
