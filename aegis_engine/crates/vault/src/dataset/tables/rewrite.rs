//! A table written anew as Parquet: without rows of people who are erased, or with the rows of a new delivery behind its own.
//!
//! The new object takes the place of the old one in one keystore write, and the old keys are destroyed as a shred does. Name,
//! terms and lineages stay, so a spent budget stays spent.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_policy::{RowIndex, Subject, distinct};
use aegis_tables::{Format, Rows, Scan, Table, TableError, Writer};
use arrow_schema::Schema;
use uuid::Uuid;

use crate::dataset::tables::draft::{Checked, Consents, Governed};
use crate::dataset::tables::open::{fault, laid_out, reopen};
use crate::dataset::tables::source::ObjectSource;
use crate::dataset::tables::store::{PARQUET_CHUNK_LOG2, columns};
use crate::dataset::{Dataset, described};
use crate::error::{Result, VaultError};
use crate::format::header::CHUNK_LOG2;
use crate::format::keystore::Kind;
use crate::format::meta::ROWS_ATTR;
use crate::format::schema::{Layout, TableSchema};
use crate::object::draft::ObjectRandomness;
use crate::object::writer::ObjectWriter;
use crate::ops::reencrypt::{Source, Swap};
use crate::vault::Vault;
use crate::vault::consents::Granted;

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

/// Rows that come behind those a table has.
struct More {
    table: Arc<Table>,
    index: RowIndex,
}

impl Vault {
    /// The table anew, without the rows of these people; nothing of it is visible yet.
    pub(crate) fn table_without(&self, dataset: &Dataset, people: &[Subject]) -> Result<Swap> {
        self.anew(dataset, |subject| !people.contains(subject), None)
    }

    /// Puts the rows of each draft behind those of its dataset: all of them, or none. Rows of people who are erased go on the way.
    /// The drafts' terms count for nothing but their classes; consent is recorded as by [`store_drafts`](Self::store_drafts).
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when a dataset is no table or has other columns: nothing has happened then.
    pub fn extend_tables(
        &self,
        tables: Vec<(Uuid, Governed)>,
        mut consents: Consents,
    ) -> Result<(Vec<Uuid>, Vec<Granted>)> {
        for (_, people) in &mut consents {
            *people = distinct(people.iter());
        }
        let mut swaps = Vec::with_capacity(tables.len());
        for (object, governed) in tables {
            let dataset = self.dataset(object)?;
            let Checked {
                data, table, index, ..
            } = governed.check()?;
            let erased = self.consent()?.erased(&dataset.index.subjects);
            let erased = erased.map_err(aegis_policy::PolicyError::from)?;
            let gone: Vec<Subject> = dataset
                .index
                .subjects
                .iter()
                .zip(erased)
                .filter_map(|(subject, erased)| erased.then_some(*subject))
                .collect();
            let more = More { table, index };
            swaps.push(self.anew(&dataset, |subject| !gone.contains(subject), Some(&more))?);
            // The draft's own object never appears.
            drop(data);
        }
        let ids: Vec<Uuid> = swaps
            .iter()
            .filter_map(|swap| Some(swap.new.last()?.id()))
            .collect();
        let mut granted = Vec::new();
        self.replace_with(swaps, |exclusive| {
            let each = consents
                .iter()
                .map(|(purpose, people)| (purpose.as_str(), &**people));
            granted = self.grant_each(exclusive, each)?;
            Ok(())
        })?;
        Ok((ids, granted))
    }

    fn anew(
        &self,
        dataset: &Dataset,
        kept: impl Fn(&Subject) -> bool,
        more: Option<&More>,
    ) -> Result<Swap> {
        let inner = &self.inner;
        let id = dataset.id;
        let schema = laid_out(dataset).ok_or_else(|| {
            bad(format!("object {id} has records, not a table; store the new rows as a data set of their own"))
        })?;
        let places: Vec<usize> = (0..dataset.index.subjects.len())
            .filter(|row| kept(&dataset.index.subjects[*row]))
            .collect();
        let mut index = RowIndex {
            classes: dataset.index.classes.clone(),
            class_of: places
                .iter()
                .map(|row| dataset.index.class_of[*row])
                .collect(),
            subjects: places
                .iter()
                .map(|row| dataset.index.subjects[*row])
                .collect(),
        };
        let mut facts = dataset.facts.clone();
        facts.lineages = dataset.lineages(self)?;
        let source = Source::open(inner, id)?;
        let mut meta = source.meta();
        let created = source.record.created;
        let (record, written) = source.into_written();
        let sealed = Arc::new(ObjectSource::new(written));
        let old = Arc::new(reopen(id, sealed, schema, true)?);
        if let Some(more) = more {
            same_schema(id, &old, &more.table)?;
            join(&mut index, &more.index)?;
            facts = self.of_lineage(&meta.name, &facts, &index)?;
        }
        index.check()?;
        let sidecar = sidecar_of(self, record.rows, id)?;
        meta.attrs
            .insert(ROWS_ATTR.to_owned(), sidecar.id().to_string());
        MEDIA_TYPE.clone_into(&mut meta.media_type);
        let seed = ObjectRandomness {
            created,
            ..ObjectRandomness::fresh()?
        };
        let rows = Some(sidecar.id());
        let data = ObjectWriter::begin(inner, meta, PARQUET_CHUNK_LOG2, Kind::Data, rows, seed)?;
        let own = Fault::default();
        let failed = |error| {
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            own.take().unwrap_or_else(|| fault(id, error))
        };
        let sink = Sink {
            object: data,
            fault: Arc::clone(&own),
        };
        let mut writer = Writer::new(sink, old.schema()).map_err(failed)?;
        let rows: Rows = places.iter().map(|row| *row as u64).collect();
        copy(&old, Some(rows), &mut writer).map_err(failed)?;
        if let Some(more) = more {
            copy(&more.table, None, &mut writer).map_err(failed)?;
        }
        let Sink { object: data, .. } = writer.finish().map_err(failed)?;
        let layout = Layout::Table(TableSchema {
            format: Format::Parquet.name().to_owned(),
            columns: columns(&old),
            rows: index.len(),
            csv: None,
            ..schema.clone()
        });
        let rows = described(sidecar, data.id(), &layout, &index, &facts)?;
        let mut data = data.complete()?;
        data.record.name.clone_from(&record.name);
        Ok(Swap {
            old: record,
            new: vec![rows, data],
        })
    }
}

const MEDIA_TYPE: &str = "application/vnd.apache.parquet";

/// What a Parquet writer writes to, and the vault's own error, which the writer would turn into text.
struct Sink {
    object: ObjectWriter,
    fault: Fault,
}

type Fault = Arc<Mutex<Option<VaultError>>>;

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        match self.object.append(data) {
            Ok(()) => Ok(data.len()),
            Err(error) => {
                let told = std::io::Error::other(error.to_string());
                let mut kept = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
                kept.get_or_insert(error);
                Err(told)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn copy(
    table: &Arc<Table>,
    rows: Option<Rows>,
    writer: &mut Writer<Sink>,
) -> std::result::Result<(), TableError> {
    // A table may have no row left to copy.
    let scan = Scan {
        rows,
        ..Scan::default()
    };
    for batch in table.read(scan)? {
        writer.write(&batch?)?;
    }
    Ok(())
}

fn same_schema(object: Uuid, old: &Table, new: &Table) -> Result<()> {
    let plain = |schema: &Schema| -> Vec<_> {
        let all = schema.fields().iter();
        all.map(|field| (field.name().clone(), field.data_type().clone()))
            .collect()
    };
    let (old, new) = (plain(old.schema()), plain(new.schema()));
    let Some(at) = (0..old.len().max(new.len())).find(|at| old.get(*at) != new.get(*at)) else {
        return Ok(());
    };
    let told = |side: Option<&(String, arrow_schema::DataType)>| match side {
        Some((name, kind)) => format!("{name:?} of {kind}"),
        None => "no column".to_owned(),
    };
    Err(bad(format!(
        "the new rows do not fit data set {object}: in place {at} it has {}, the new rows have {}",
        told(old.get(at)),
        told(new.get(at))
    )))
}

/// Puts rows behind others; classes that are there already are not there twice.
fn join(index: &mut RowIndex, more: &RowIndex) -> Result<()> {
    let mut place = Vec::with_capacity(more.classes.len());
    for class in &more.classes {
        let known = index.classes.iter().position(|other| other == class);
        let at = known.unwrap_or_else(|| {
            index.classes.push(class.clone());
            index.classes.len() - 1
        });
        place.push(
            u16::try_from(at)
                .map_err(|_| bad("the rows have more than 65 536 classes".to_owned()))?,
        );
    }
    index
        .class_of
        .extend(more.class_of.iter().map(|class| place[usize::from(*class)]));
    index.subjects.extend_from_slice(&more.subjects);
    Ok(())
}

/// A writer for the governance rows, with the metadata of those there are.
fn sidecar_of(vault: &Vault, rows: Option<Uuid>, data: Uuid) -> Result<ObjectWriter> {
    let known = Source::open(&vault.inner, rows.unwrap_or(data))?;
    let (meta, seed) = (known.meta(), ObjectRandomness::fresh()?);
    ObjectWriter::begin(&vault.inner, meta, CHUNK_LOG2, Kind::Rows, None, seed)
}
