//! A table written anew as Parquet: without rows of people who are erased, or with the rows of a new delivery behind its own.
//!
//! The new object takes the place of the old one in one keystore write, and the old keys are destroyed as a shred does. Name,
//! terms and lineages stay, so a spent budget stays spent.

use std::collections::HashSet;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_audit::Event;
use aegis_policy::{DatasetFacts, RowIndex, Subject, distinct};
use aegis_tables::{Format, Rows, Scan, Table, TableError, Writer};
use arrow_schema::Schema;
use serde_json::json;
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::dataset::amend::{beyond, reasoned};
use crate::dataset::anew::Anew;
use crate::dataset::tables::draft::{Checked, Consents, Governed};
use crate::dataset::tables::open::{fault, laid_out, reopen};
use crate::dataset::tables::source::ObjectSource;
use crate::dataset::tables::store::{PARQUET_CHUNK_LOG2, columns};
use crate::error::{Result, VaultError};
use crate::format::schema::{Layout, TableSchema};
use crate::object::writer::ObjectWriter;
use crate::ops::reencrypt::{Source, Swap};
use crate::vault::consents::Granted;
use crate::vault::{Exclusive, Vault};

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
        let (_, swap) = self.anew(dataset, |subject| !people.contains(subject), None)?;
        Ok(swap)
    }

    /// Puts the rows of each draft behind those of its dataset: all of them, or none. Rows of people who are erased go on the way.
    /// The drafts' terms count for nothing but their classes; consent is recorded as by [`store_drafts`](Self::store_drafts).
    ///
    /// A delivery is held to what the dataset allows. Rows under another basis, rows that may be used for longer, and people who
    /// were promised a smaller budget need a `reason`, which is put on record.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] when a dataset is no table, is named twice or has other columns, or when a reason is missing:
    /// nothing has happened then.
    pub fn extend_tables(
        &self,
        tables: Vec<(Uuid, Governed)>,
        mut consents: Consents,
        reason: &str,
    ) -> Result<(Vec<Uuid>, Vec<Granted>)> {
        for (_, people) in &mut consents {
            *people = distinct(people.iter());
        }
        let mut deliveries = Vec::with_capacity(tables.len());
        let mut swaps = Vec::with_capacity(tables.len());
        for (at, (object, governed)) in tables.into_iter().enumerate() {
            if deliveries.iter().any(|one: &Delivery| one.object == object) {
                return Err(bad(format!(
                    "data set {object} is named twice, the second time in place {at}"
                )));
            }
            let (delivery, swap) = self.delivered(object, governed, reason)?;
            deliveries.push(delivery);
            swaps.push(swap);
        }
        let ids = swaps.iter().map(Swap::new_id).collect();
        let mut granted = Vec::new();
        let first = |_: &mut Exclusive<'_>| {
            deliveries.iter().try_for_each(|one| {
                self.none_erased(&one.people)?;
                reasoned(&self.beyond_promise(&one.joining)?, reason).map(drop)
            })
        };
        self.replace_with(swaps, first, |exclusive| {
            for one in &deliveries {
                one.record(self, exclusive, reason)?;
            }
            let each = consents
                .iter()
                .map(|(purpose, people)| (purpose.as_str(), &**people));
            granted = self.grant_each(exclusive, each)?;
            Ok(())
        })?;
        Ok((ids, granted))
    }

    /// One dataset with its new rows; nothing of it is visible yet.
    fn delivered(
        &self,
        object: Uuid,
        governed: Governed,
        reason: &str,
    ) -> Result<(Delivery, Swap)> {
        let dataset = self.dataset(object)?;
        let mut wider = beyond(&dataset.index.classes, &governed.index.classes);
        reasoned(&wider, reason)?;
        let Checked {
            data, table, index, ..
        } = governed.check()?;
        let of = &dataset.index.subjects;
        let erased = self.consent()?.erased(of);
        let erased = erased.map_err(aegis_policy::PolicyError::from)?;
        let gone = of.iter().zip(erased).filter(|(_, erased)| *erased);
        let gone: HashSet<Subject> = gone.map(|(subject, _)| *subject).collect();
        let people = index.subjects.clone();
        let more = More { table, index };
        let (facts, swap) = self.anew(&dataset, |subject| !gone.contains(subject), Some(&more))?;
        // The dataset spends its own lineages already; only people of others are promised something anew.
        let own = dataset.lineages(self)?;
        let mut joining = facts;
        joining.lineages.retain(|lineage| !own.contains(lineage));
        let beyond = self.beyond_promise(&joining)?;
        reasoned(&beyond, reason)?;
        wider.extend(beyond);
        // The draft's own object never appears.
        drop(data);
        let now = swap.new_id();
        let delivery = Delivery {
            object,
            now,
            people,
            joining,
            wider,
        };
        Ok((delivery, swap))
    }

    fn anew(
        &self,
        dataset: &Dataset,
        kept: impl Fn(&Subject) -> bool,
        more: Option<&More>,
    ) -> Result<(DatasetFacts, Swap)> {
        let id = dataset.id;
        let schema = laid_out(dataset).ok_or_else(|| {
            bad(format!("object {id} has records, not a table; store the new rows as a data set of their own"))
        })?;
        let places = dataset.index.places(kept);
        let mut index = dataset.index.select(&places);
        let mut facts = dataset.facts.clone();
        facts.lineages = dataset.lineages(self)?;
        let source = Source::open(&self.inner, id)?;
        let mut meta = source.meta();
        let (record, written) = source.into_written();
        let sealed = Arc::new(ObjectSource::new(written));
        let old = Arc::new(reopen(id, sealed, schema, true)?);
        if let Some(more) = more {
            same_schema(id, &old, &more.table)?;
            index.join(&more.index)?;
            facts = self.of_lineage(&meta.name, &facts, &index)?;
        }
        index.check()?;
        MEDIA_TYPE.clone_into(&mut meta.media_type);
        let Anew {
            old: record,
            sidecar,
            data,
        } = Anew::begin(self, &record, meta, PARQUET_CHUNK_LOG2)?;
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
        let anew = Anew {
            old: record,
            sidecar,
            data,
        };
        Ok((facts.clone(), anew.finish(&layout, &index, &facts)?))
    }
}

/// A delivery that was written behind its dataset's rows.
struct Delivery {
    object: Uuid,
    now: Uuid,
    people: Vec<Subject>,
    /// The terms, with the lineages that were not the dataset's before.
    joining: DatasetFacts,
    wider: Vec<&'static str>,
}

impl Delivery {
    /// Says in the log what the delivery widened, and promises its people the dataset's budget.
    fn record(&self, vault: &Vault, exclusive: &mut Exclusive<'_>, reason: &str) -> Result<()> {
        vault.note_promise(exclusive, &self.joining, &self.wider)?;
        if self.wider.is_empty() {
            return Ok(());
        }
        let told = json!({
            "object": self.object.to_string(),
            "replaced_by": self.now.to_string(),
            "narrower": [],
            "wider": self.wider,
            "rows": self.people.len(),
            "reason": reason.trim(),
        });
        exclusive.inner.log.record(Event::Amend, told)?;
        Ok(())
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
