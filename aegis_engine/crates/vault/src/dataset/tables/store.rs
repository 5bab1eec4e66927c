//! Storing a table as a governed dataset: the file streams in, its governance rows say how it is to be read.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aegis_memory::Pages;
use aegis_policy::{DatasetFacts, RowIndex};
use aegis_tables::{Block, CsvOptions, Format, Scan, Scanner, Source, Table, TableError};
use uuid::Uuid;

use crate::dataset::tables::source::ends;
use crate::dataset::{DataAndRows, same_columns};
use crate::error::{Result, VaultError};
use crate::format::header::CHUNK_LOG2;
use crate::format::meta::Meta;
use crate::format::schema::{CsvLayout, Layout, TableColumn, TableSchema, TableTag};
use crate::system::outside;
use crate::vault::Vault;

/// 64 KiB: column chunks start and end anywhere, and what they share with others is decrypted in vain.
pub(super) const PARQUET_CHUNK_LOG2: u8 = 16;
/// Read from the file at a time.
const STEP: usize = 1 << 20;

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

impl Vault {
    /// Stores a Parquet or CSV file as a dataset, with one row of `index` a row of the table. Memory does not depend on the
    /// size of the file, only on the number of rows (18 bytes each for the index). Both objects appear, or none.
    ///
    /// The whole file is read first, by the reader that a permit will read it with: what is stored can be read.
    pub fn store_table(
        &self,
        source: &Path,
        mut meta: Meta,
        format: Option<Format>,
        csv: &CsvOptions,
        index: &RowIndex,
        facts: &DatasetFacts,
    ) -> Result<Uuid> {
        if meta.name.is_empty() {
            meta.name = outside::name(source)?;
        }
        meta.check()?;
        index.check()?;
        facts.check()?;
        let open = || outside::source(source);
        let file = open()?;
        let failed = |error| unfit(source, error);
        let before = version(&file, source)?;
        let format = format_of(&file, source, &mut meta, format)?;
        let chunk_log2 = match format {
            Format::Parquet => PARQUET_CHUNK_LOG2,
            Format::Csv => CHUNK_LOG2,
        };
        let handle: Arc<dyn Source> = Arc::new(open()?);
        let table = match format {
            Format::Parquet => Table::parquet(handle, true),
            Format::Csv => Table::csv(handle, csv.clone()),
        };
        let table = Arc::new(table.map_err(failed)?);
        let columns = columns(&table);
        delimited(&columns, format, csv, facts)?;
        same_columns(columns.iter().map(|column| &column.name), facts)?;
        let rows = read_through(&table).map_err(failed)?;
        one_subject_per_row(rows, index)?;
        let mut scanner = match format {
            Format::Parquet => None,
            Format::Csv => Some(Scanner::new(csv, columns.len()).map_err(failed)?),
        };
        // Only now, so that a table that is refused claims no lineage.
        let facts = &self.of_lineage(&meta.name, facts, index)?;
        self.keeps_promise(facts)?;
        let mut pair = DataAndRows::begin(&self.inner, meta, chunk_log2)?;
        stream(&file, source, &mut pair, scanner.as_mut()).map_err(|error| match error {
            Stop::Vault(error) => error,
            Stop::Table(error) => failed(error),
        })?;
        let blocks = scanner.map(Scanner::finish).transpose().map_err(failed)?;
        let counted = blocks
            .as_ref()
            .map(|blocks| blocks.iter().map(|block| block.rows).sum());
        if version(&file, source)? != before || counted.is_some_and(|counted: u64| counted != rows)
        {
            return Err(bad(
                "the file changed while it was stored; store it again".to_owned()
            ));
        }
        let schema = TableSchema {
            layout: TableTag::Table,
            format: format.name().to_owned(),
            columns,
            rows: index.len(),
            csv: blocks.map(|blocks| layout(csv, &blocks)).transpose()?,
            about: None,
        };
        pair.finish(self, &Layout::Table(schema), index, facts, &[])
            .map(|(id, _)| id)
    }
}

/// The format that was asked for, or else the one that names and first bytes say. An empty media type becomes the format's.
fn format_of(file: &File, source: &Path, meta: &mut Meta, asked: Option<Format>) -> Result<Format> {
    let file_name = source
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let (head, tail) = ends(file).map_err(|e| unfit(source, TableError::Source(e)))?;
    let format = asked
        .or_else(|| Format::detect(&meta.media_type, &meta.name, &head, &tail))
        // A name of the caller's choice may say nothing; the file's own does.
        .or_else(|| Format::detect("", &file_name, &head, &tail))
        .ok_or_else(|| {
            bad(
                "neither name nor first bytes say what the file is; name the format, parquet \
                     or csv"
                    .to_owned(),
            )
        })?;
    if meta.media_type.is_empty() {
        let known = match format {
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Csv => "text/csv",
        };
        known.clone_into(&mut meta.media_type);
    }
    Ok(format)
}

/// There are rows, and each has its subject.
pub(super) fn one_subject_per_row(rows: u64, index: &RowIndex) -> Result<()> {
    if rows == 0 {
        return Err(bad(
            "the table has no rows; store it once it has some".to_owned()
        ));
    }
    if rows != u64::from(index.len()) {
        return Err(bad(format!(
            "the table has {rows} rows, {} have a subject; give one subject a row",
            index.len()
        )));
    }
    Ok(())
}

/// Threads that decode what is stored, at most: beyond these the memory grows and the time hardly falls.
const THREADS: usize = 4;
const STEP_ROWS: usize = 1 << 13;

/// Decodes every column of every row; gives how many rows there are.
pub(super) fn read_through(table: &Arc<Table>) -> std::result::Result<u64, TableError> {
    let names = table.schema().fields().iter();
    // By their names, as a permit names them: one that is there twice could not be read.
    let scan = Scan {
        columns: Some(names.map(|field| field.name().clone()).collect()),
        // Small enough for the processor's cache: what is decoded is thrown away.
        batch_rows: STEP_ROWS,
        threads: std::thread::available_parallelism().map_or(1, |all| all.get().min(THREADS)),
        ..Scan::default()
    };
    let mut rows = 0;
    for batch in table.read(scan)? {
        rows += batch?.num_rows() as u64;
    }
    Ok(rows)
}

/// A file of another delimiter reads as one column: said before its columns are called wrong.
fn delimited(
    columns: &[TableColumn],
    format: Format,
    csv: &CsvOptions,
    facts: &DatasetFacts,
) -> Result<()> {
    let ([one], Format::Csv) = (columns, format) else {
        return Ok(());
    };
    let other = [';', '\t', '|', ',']
        .into_iter()
        .find(|c| u32::from(*c) != u32::from(csv.delimiter) && one.name.contains(*c));
    match other {
        Some(found) if facts.columns.len() > 1 => Err(bad(format!(
            "the file reads as one column; its delimiter seems to be {found:?}: say Csv(delimiter={found:?})"
        ))),
        _ => Ok(()),
    }
}

fn unfit(path: &Path, source: TableError) -> VaultError {
    VaultError::TableFile {
        path: path.to_owned(),
        source,
    }
}

/// By what a change of the file is noticed: it is read twice.
fn version(file: &File, path: &Path) -> Result<(u64, Option<SystemTime>)> {
    let about = file.metadata().map_err(VaultError::io("look at", path))?;
    Ok((about.len(), about.modified().ok()))
}

enum Stop {
    Vault(VaultError),
    Table(TableError),
}

/// Seals the file's bytes as they are now; the scanner sees the same ones.
fn stream(
    file: &File,
    path: &Path,
    pair: &mut DataAndRows,
    mut scanner: Option<&mut Scanner>,
) -> std::result::Result<(), Stop> {
    let length = Source::len(file);
    let io = |source| Stop::Vault(VaultError::io("read", path)(source));
    let mut buffer = Pages::new(STEP).map_err(io)?;
    let mut at = 0;
    while at < length {
        let take = usize::try_from(length - at).unwrap_or(STEP).min(STEP);
        std::os::unix::fs::FileExt::read_exact_at(file, &mut buffer[..take], at).map_err(io)?;
        if let Some(scanner) = scanner.as_mut() {
            scanner.feed(&buffer[..take]).map_err(Stop::Table)?;
        }
        pair.data.append(&buffer[..take]).map_err(Stop::Vault)?;
        at += take as u64;
    }
    Ok(())
}

pub(super) fn columns(table: &Table) -> Vec<TableColumn> {
    let fields = table.schema().fields().iter().enumerate();
    let column = |(at, field): (usize, &Arc<arrow_schema::Field>)| TableColumn {
        name: field.name().clone(),
        kind: match table.kinds().and_then(|kinds| kinds.get(at)) {
            Some(kind) => kind.name().to_owned(),
            None => field.data_type().to_string(),
        },
    };
    fields.map(column).collect()
}

fn layout(options: &CsvOptions, blocks: &[Block]) -> Result<CsvLayout> {
    let longest_line = u32::try_from(options.longest_line)
        .map_err(|_| bad("the longest line must be 1 byte to 1 GiB".to_owned()))?;
    Ok(CsvLayout {
        delimiter: options.delimiter,
        quote: options.quote,
        header: options.header,
        nulls: options.nulls.clone(),
        longest_line,
        blocks: blocks
            .iter()
            .map(|block| (block.offset, block.line, block.rows))
            .collect(),
    })
}
