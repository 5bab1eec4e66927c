//! Rows under governance go here: storing them, reading them under a permit, whose they are, whose budget they spend.
//!
//! A dataset: records in one object, governance metadata (schema, facts, classes and pseudonyms) in a second one.
//!
//! Content of the second object:
//! `AEGISRW1` ‖ data object id 16 ‖ u64 n, schema JSON ‖ u64 n, facts JSON ‖ u64 n, row index (aegis-policy's encoding)

pub(crate) mod amend;
pub(crate) mod anew;
pub(crate) mod blocks;
pub(crate) mod card;
pub(crate) mod consents;
pub(crate) mod erase;
pub(crate) mod lineage;
pub(crate) mod people;
pub(crate) mod promise;
pub(crate) mod records;
pub(crate) mod register;
#[cfg(feature = "tables")]
pub(crate) mod tables;

use std::collections::HashMap;
use std::sync::Arc;

use aegis_policy::{ConsentError, DatasetFacts, PolicyError, Role, RowIndex, Subject};
use aws_lc_rs::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
use crate::format::chunk;
use crate::format::header::CHUNK_LOG2;
use crate::format::keystore::{KeyRecord, Kind};
use crate::format::meta::{Meta, ROWS_ATTR};
use crate::format::schema::{Layout, RecordSchema};
use crate::object::bulk;
use crate::object::draft::{Finished, ObjectRandomness};
use crate::object::file::ObjectFile;
use crate::object::names;
use crate::object::writer::ObjectWriter;
use crate::ops::store;
use crate::vault::consents::Granted;
use crate::vault::{Exclusive, Inner, Vault};

/// Media type of governance rows.
pub const ROWS_MEDIA_TYPE: &str = "application/vnd.aegis.rows";
/// Media type of records, unless the caller names another.
const RECORDS_MEDIA_TYPE: &str = "application/vnd.aegis.records";
/// The first bytes of governance rows.
const MAGIC: &[u8; 8] = b"AEGISRW1";
/// 64 KiB: shuffled batches touch many chunks, and the cipher is as fast as with 1 MiB.
const RECORDS_CHUNK_LOG2: u8 = 16;

/// Governance metadata of a dataset; no training data.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The data object.
    pub id: Uuid,
    /// How its rows are laid out.
    pub layout: Layout,
    /// What the data steward fixed.
    pub facts: DatasetFacts,
    /// Class and subject of every row.
    pub index: RowIndex,
    /// Number of rows.
    pub rows: u32,
    /// SHA-256 of the governance metadata without the object's id: the same after a rename and a re-encryption.
    pub(crate) content: [u8; 32],
}

impl Dataset {
    /// Columns of a record.
    ///
    /// # Errors
    /// [`VaultError::NotRecords`] when the dataset is a table.
    pub fn records(&self) -> Result<&RecordSchema> {
        match &self.layout {
            Layout::Records(schema) => Ok(schema),
            Layout::Table(_) => Err(VaultError::NotRecords {
                object: self.id,
                reason: "it is a table, which is opened as one".to_owned(),
            }),
        }
    }
}

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

/// Governance rows that were decrypted.
#[derive(Default)]
struct Decrypted {
    /// By data object: the MAC of the file it was read from (what is stored anew is read anew), and what it says.
    known: HashMap<Uuid, ([u8; 32], Arc<Dataset>)>,
    /// How often any were.
    times: u64,
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
        self.keeps_promise(&facts)?;
        let mut pair = DataAndRows::begin(&self.inner, meta, RECORDS_CHUNK_LOG2)?;
        pair.data.append(data)?;
        pair.finish(
            self,
            &Layout::Records(schema.clone()),
            index,
            &facts,
            purposes,
        )
    }

    /// Refuses rows of erased people: beforehand, and under the lock, as somebody may be erased meanwhile.
    pub(crate) fn none_erased(&self, people: &[Subject]) -> Result<()> {
        let erased = self.consent()?.erased(people);
        let erased = erased.map_err(PolicyError::from)?;
        let rows = erased.iter().filter(|erased| **erased).count();
        if rows > 0 {
            return Err(PolicyError::from(ConsentError::ErasedRows { rows }).into());
        }
        Ok(())
    }

    /// The facts with the role and the lineages that a new dataset of these people has.
    pub(crate) fn of_lineage(
        &self,
        name: &str,
        facts: &DatasetFacts,
        index: &RowIndex,
    ) -> Result<DatasetFacts> {
        self.none_erased(&index.subjects)?;
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
            let rows: &KeyRecord = state.body.live(rows)?;
            let file = ObjectFile::open(&self.inner, rows)?;
            let key = file.locked(&self.inner, &state.body, rows).rows()?;
            Ok((file, key, record.length, rows.header_mac))
        })?;
        file.check_size()?;
        let known = self.inner.datasets.with(|known: &mut Decrypted| {
            let (of, dataset) = known.known.get(&object)?;
            (*of == mac).then(|| Arc::clone(dataset))
        });
        if let Some(known) = known {
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
        self.inner
            .datasets
            .with(|known: &mut Decrypted| known.times += 1);
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
        self.inner.datasets.with(|known: &mut Decrypted| {
            let living = |object: &Uuid, _: &mut _| state.body.live(*object).is_ok();
            known.known.retain(living);
            known.known.insert(object, (mac, Arc::clone(&dataset)));
        });
        Ok(dataset)
    }

    /// How often this handle decrypted governance rows: once per data set, as long as the data sets stay the same.
    pub fn governance_reads(&self) -> u64 {
        self.inner
            .datasets
            .with(|known: &mut Decrypted| known.times)
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
pub(crate) struct DataAndRows {
    inner: Arc<Inner>,
    pub sidecar: ObjectWriter,
    /// Takes the rows.
    pub data: ObjectWriter,
}

impl DataAndRows {
    pub fn begin(inner: &Arc<Inner>, mut meta: Meta, chunk_log2: u8) -> Result<Self> {
        names::look(inner, &meta.name, names::Asker::Dataset)?;
        let mut about = Meta::named(meta.name.clone());
        ROWS_MEDIA_TYPE.clone_into(&mut about.media_type);
        let seed = ObjectRandomness::fresh()?;
        let sidecar = ObjectWriter::begin(inner, about, CHUNK_LOG2, Kind::Rows, None, seed)?;
        let rows = sidecar.id();
        meta.attrs.insert(ROWS_ATTR.to_owned(), rows.to_string());
        let seed = ObjectRandomness::fresh()?;
        let data = ObjectWriter::begin(inner, meta, chunk_log2, Kind::Data, Some(rows), seed)?;
        Ok(Self {
            inner: Arc::clone(inner),
            sidecar,
            data,
        })
    }

    /// Writes the governance rows and makes both objects durable and visible.
    pub fn finish(
        self,
        vault: &Vault,
        layout: &Layout,
        index: &RowIndex,
        facts: &DatasetFacts,
        purposes: &[String],
    ) -> Result<(Uuid, Vec<Granted>)> {
        let id = self.data.id();
        let inner = Arc::clone(&self.inner);
        let sidecar = described(self.sidecar, id, layout, index, facts)?;
        let objects = vec![sidecar, self.data.complete()?];
        let mut granted = Vec::new();
        let first = |_: &mut Exclusive<'_>| {
            vault.none_erased(&index.subjects)?;
            vault.keeps_promise(facts)
        };
        store::commit_with(&inner, objects, first, |exclusive| {
            vault.note_promise(exclusive, facts, &[])?;
            granted = vault.grant_with_data(exclusive, &index.subjects, purposes)?;
            Ok(())
        })?;
        Ok((id, granted))
    }
}

/// The governance rows of `object`, complete and durable; not visible yet.
pub(crate) fn described(
    mut sidecar: ObjectWriter,
    object: Uuid,
    layout: &Layout,
    index: &RowIndex,
    facts: &DatasetFacts,
) -> Result<Finished> {
    sidecar.append(&encode(object, layout, facts, index)?)?;
    sidecar.complete()
}

pub(crate) fn encode(
    object: Uuid,
    schema: &Layout,
    facts: &DatasetFacts,
    index: &RowIndex,
) -> Result<Zeroizing<Vec<u8>>> {
    fn json(value: &impl Serialize) -> Result<Vec<u8>> {
        serde_json::to_vec(value).map_err(|error| {
            bad(format!(
                "schema or facts cannot be written as JSON: {error}"
            ))
        })
    }
    let index = Zeroizing::new(index.encode()?);
    let (schema, facts) = (json(schema)?, json(facts)?);
    let mut out = Zeroizing::new(Vec::with_capacity(
        48 + schema.len() + facts.len() + index.len(),
    ));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(object.as_bytes());
    for part in [&schema, &facts, &*index] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    Ok(out)
}

/// Strict; `None` = malformed or of another data object.
pub(crate) fn decode(object: Uuid, bytes: &[u8]) -> Option<Dataset> {
    fn json<T: DeserializeOwned>(part: &[u8]) -> Option<T> {
        serde_json::from_slice(part).ok()
    }
    fn part<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
        let (len, tail) = rest.split_first_chunk::<8>()?;
        let (part, tail) =
            tail.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        *rest = tail;
        Some(part)
    }
    let mut rest = bytes.strip_prefix(MAGIC)?.strip_prefix(object.as_bytes())?;
    let (schema, facts, index) = (part(&mut rest)?, part(&mut rest)?, part(&mut rest)?);
    if !rest.is_empty() {
        return None;
    }
    let index = RowIndex::decode(index).ok()?;
    let mut content = [0; 32];
    content.copy_from_slice(digest::digest(&digest::SHA256, &bytes[24..]).as_ref());
    Some(Dataset {
        content,
        id: object,
        layout: json(schema)?,
        facts: json(facts)?,
        rows: index.len(),
        index,
    })
}
