//! Governed tables whose bytes come piece by piece, so that no plaintext of them has to lie in a file first.
//!
//! A draft takes the bytes of a Parquet file and, row by row, whom the rows are about. Several drafts become visible together,
//! with the consent that came with them: a data set and its holdout, or neither.

use std::sync::Arc;

use aegis_policy::{DatasetFacts, RowIndex, Subject, distinct};
use aegis_tables::Table;
use uuid::Uuid;

use crate::dataset::tables::open::fault;
use crate::dataset::tables::source::ObjectSource;
use crate::dataset::tables::store::{
    PARQUET_CHUNK_LOG2, columns, one_subject_per_row, read_through,
};
use crate::dataset::{DataAndRows, described, same_columns};
use crate::error::{Result, VaultError};
use crate::format::meta::Meta;
use crate::format::schema::{Layout, TableSchema, TableTag};
use crate::object::draft::Finished;
use crate::object::writer::ObjectWriter;
use crate::ops::store;
use crate::vault::consents::Granted;
use crate::vault::{Exclusive, Vault};

const ABOUT_MAX: usize = 1 << 20;
const MEDIA_TYPE: &str = "application/vnd.apache.parquet";

/// A governed table on its way. Dropping it leaves nothing behind.
pub struct TableDraft {
    pair: DataAndRows,
    name: String,
}

/// A draft with all that governs it.
pub struct Governed {
    /// The table's bytes, complete.
    pub draft: TableDraft,
    /// Whom each row is about, and its class.
    pub index: RowIndex,
    /// The steward's terms.
    pub facts: DatasetFacts,
    /// What the columns mean, in the importer's words; 1 MiB at most.
    pub about: Option<String>,
}

/// People whose consent to a purpose comes with the data.
pub type Consents = Vec<(String, Vec<Subject>)>;

impl TableDraft {
    /// The id that the data set will have.
    pub fn id(&self) -> Uuid {
        self.pair.data.id()
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.pair.data.written()
    }

    /// Takes the next bytes of the Parquet file.
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        self.pair.data.append(data)
    }
}

/// A draft that was read through.
pub(crate) struct Checked {
    name: String,
    sidecar: ObjectWriter,
    pub data: Finished,
    pub table: Arc<Table>,
    layout: Layout,
    pub index: RowIndex,
    pub facts: DatasetFacts,
}

impl Governed {
    /// Ends the file and reads it through, by the reader that a permit will read it with: what is stored can be read.
    pub(crate) fn check(self) -> Result<Checked> {
        let Self {
            draft,
            index,
            facts,
            about,
        } = self;
        index.check()?;
        facts.check()?;
        if about.as_ref().is_some_and(|text| text.len() > ABOUT_MAX) {
            let what = "what is said about the columns is longer than 1 MiB; say less".to_owned();
            return Err(VaultError::BadRequest { what });
        }
        let id = draft.id();
        let (data, written) = draft.pair.data.complete_readable()?;
        let table = Table::parquet(Arc::new(ObjectSource::new(written)), true);
        let table = Arc::new(table.map_err(|error| fault(id, error))?);
        let columns = columns(&table);
        same_columns(columns.iter().map(|column| &column.name), &facts)?;
        let rows = read_through(&table).map_err(|error| fault(id, error))?;
        one_subject_per_row(rows, &index)?;
        let layout = Layout::Table(TableSchema {
            layout: TableTag::Table,
            format: table.format().name().to_owned(),
            columns,
            rows: index.len(),
            csv: None,
            about,
        });
        Ok(Checked {
            name: draft.name,
            sidecar: draft.pair.sidecar,
            data,
            table,
            layout,
            index,
            facts,
        })
    }
}

impl Vault {
    /// Starts a governed table; its name is looked at now.
    pub fn table_draft(&self, mut meta: Meta) -> Result<TableDraft> {
        meta.check()?;
        if meta.media_type.is_empty() {
            MEDIA_TYPE.clone_into(&mut meta.media_type);
        }
        let name = meta.name.clone();
        let pair = DataAndRows::begin(&self.inner, meta, PARQUET_CHUNK_LOG2)?;
        Ok(TableDraft { pair, name })
    }

    /// Makes tables visible, all of them or none, and records the consent that came with them of everybody who never withdrew it.
    ///
    /// # Errors
    /// AEG-P016 when rows are of erased people, [`VaultError::Table`] when bytes are no Parquet: nothing is stored.
    pub fn store_drafts(
        &self,
        tables: Vec<Governed>,
        mut consents: Consents,
    ) -> Result<(Vec<Uuid>, Vec<Granted>)> {
        for (_, people) in &mut consents {
            *people = distinct(people.iter());
        }
        let checked = tables.into_iter().map(Governed::check);
        let checked = checked.collect::<Result<Vec<_>>>()?;
        // Only now, so that a table that is refused claims no lineage.
        let mut ids = Vec::with_capacity(checked.len());
        let mut objects = Vec::with_capacity(2 * checked.len());
        let mut governed = Vec::with_capacity(checked.len());
        for one in checked {
            let facts = self.of_lineage(&one.name, &one.facts, &one.index)?;
            self.keeps_promise(&facts)?;
            let (data, sidecar) = (one.data, one.sidecar);
            ids.push(data.id());
            objects.push(described(
                sidecar,
                data.id(),
                &one.layout,
                &one.index,
                &facts,
            )?);
            objects.push(data);
            governed.push((facts, one.index));
        }
        if objects.is_empty() {
            let what = "there is no table to store".to_owned();
            return Err(VaultError::BadRequest { what });
        }
        let mut granted = Vec::new();
        let first = |_: &mut Exclusive<'_>| {
            governed.iter().try_for_each(|(facts, index)| {
                self.none_erased(&index.subjects)?;
                self.keeps_promise(facts)
            })
        };
        store::commit_with(&self.inner, objects, first, |exclusive| {
            for (facts, _) in &governed {
                self.note_promise(exclusive, facts, &[])?;
            }
            let each = consents
                .iter()
                .map(|(purpose, people)| (purpose.as_str(), &**people));
            granted = self.grant_each(exclusive, each)?;
            Ok(())
        })?;
        Ok((ids, granted))
    }
}
