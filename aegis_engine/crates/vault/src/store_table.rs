//! Storing a table as a governed dataset: the file streams in, its governance rows say how it is to be read.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aegis_memory::Pages;
use aegis_policy::{DatasetFacts, RowIndex};
use aegis_tables::{Block, CsvOptions, Format, Scanner, Source, Table};
use uuid::Uuid;

use crate::dataset::{Pair, same_columns};
use crate::error::{Result, VaultError};
use crate::header::CHUNK_LOG2;
use crate::meta::Meta;
use crate::outside;
use crate::schema::{CsvLayout, Layout, TableColumn, TableSchema, TableTag};
use crate::table::fault;
use crate::vault::Vault;

/// 64 KiB: column chunks start and end anywhere, and what they share with others is decrypted in vain.
const PARQUET_CHUNK_LOG2: u8 = 16;
/// Read from the file at a time.
const STEP: usize = 1 << 20;

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

impl Vault {
    /// Stores a Parquet or CSV file as a dataset, with one row of `index` a row of the table. Memory does not depend on the
    /// size of the file, only on the number of rows (18 bytes each for the index). Both objects appear, or none.
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
        let open = || outside::source(source);
        let file = open()?;
        let mut head = [0; 4];
        let some = usize::try_from(Source::len(&file)).unwrap_or(4).min(4);
        file.read_at(0, &mut head[..some])
            .map_err(|e| bad(format!("the file cannot be read: {e}")))?;
        let format = format
            .or_else(|| Format::detect(&meta.media_type, &meta.name, &head))
            .ok_or_else(|| bad("neither name nor first bytes say what the file is; name the format, parquet or csv".to_owned()))?;
        if meta.media_type.is_empty() {
            let known = match format {
                Format::Parquet => "application/vnd.apache.parquet",
                Format::Csv => "text/csv",
            };
            known.clone_into(&mut meta.media_type);
        }
        let chunk_log2 = match format {
            Format::Parquet => PARQUET_CHUNK_LOG2,
            Format::Csv => CHUNK_LOG2,
        };
        let mut pair = Pair::begin(&self.inner, meta, chunk_log2)?;
        let object = pair.data.id();
        let failed = |error| fault(object, error);
        let handle: Arc<dyn Source> = Arc::new(open()?);
        let table = match format {
            Format::Parquet => Table::parquet(handle, false),
            Format::Csv => Table::csv(handle, csv.clone()),
        }
        .map_err(failed)?;
        let columns = columns(&table);
        same_columns(columns.iter().map(|column| &column.name), facts)?;
        let mut scanner = match format {
            Format::Parquet => None,
            Format::Csv => Some(Scanner::new(csv, columns.len()).map_err(failed)?),
        };
        stream(&file, source, &mut pair, scanner.as_mut()).map_err(|error| match error {
            Stop::Vault(error) => error,
            Stop::Table(error) => failed(error),
        })?;
        let (csv, rows) = match scanner {
            Some(scanner) => {
                let blocks = scanner.finish().map_err(failed)?;
                let rows = blocks.iter().map(|block| block.rows).sum();
                (Some(layout(csv, &blocks)?), Some(rows))
            }
            None => (None, table.rows()),
        };
        if rows != Some(u64::from(index.len())) {
            return Err(bad(format!(
                "the table has {} rows, {} have a subject; give one subject a row",
                rows.unwrap_or_default(),
                index.len()
            )));
        }
        let schema = TableSchema {
            layout: TableTag::Table,
            format: format.name().to_owned(),
            columns,
            rows: index.len(),
            csv,
        };
        pair.finish(&Layout::Table(schema), index, facts)
    }
}

enum Stop {
    Vault(VaultError),
    Table(aegis_tables::TableError),
}

/// Seals the file's bytes as they are now; the scanner sees the same ones.
fn stream(
    file: &File,
    path: &Path,
    pair: &mut Pair,
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
    if Source::len(file) != length {
        return Err(Stop::Vault(bad(
            "the file changed while it was stored; store it again".to_owned(),
        )));
    }
    Ok(())
}

fn columns(table: &Table) -> Vec<TableColumn> {
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
