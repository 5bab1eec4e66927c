//! How a table is to be read: by its governance rows if it has any, else as the request says or as its bytes look.

use std::sync::Arc;

use aegis_tables::{Block, CsvOptions, Format, Kind, Source, Table, TableError};
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::dataset::tables::source::ends;
use crate::error::{Result, VaultError};
use crate::format::meta::ObjectInfo;
use crate::format::schema::{CsvLayout, Layout, TableSchema};

/// How to open a table.
#[derive(Debug, Clone, Default)]
pub struct TableRequest {
    /// Format; found by media type, first bytes and name when `None`.
    pub format: Option<Format>,
    /// Columns, in this order; all that are permitted when `None`.
    pub columns: Option<Vec<String>>,
    /// How a CSV file is written. A dataset stored as a table knows that itself.
    pub csv: Option<CsvOptions>,
}

/// The vault's own error when it was one; the others with the object's name.
pub(crate) fn fault(object: Uuid, error: TableError) -> VaultError {
    match error {
        TableError::Source(inner) => match inner.downcast::<VaultError>() {
            Ok(own) => *own,
            Err(other) => VaultError::Table {
                object,
                source: TableError::Source(other),
            },
        },
        source => VaultError::Table { object, source },
    }
}

impl TableRequest {
    /// Whoever stored a governed table said how it is read. A request may say the same, not something else: its rows would
    /// shift away from their subjects, or the caller would believe what is not so.
    pub(crate) fn fits(&self, stored: &TableSchema) -> std::result::Result<(), String> {
        let format = &stored.format;
        let other = self.format.filter(|wanted| wanted.name() != format);
        if let Some(other) = other {
            return Err(format!(
                "it is a governed table, stored as {format}, not {}; leave the format out",
                other.name()
            ));
        }
        let Some(wanted) = &self.csv else {
            return Ok(());
        };
        let same = stored.csv.as_ref().is_some_and(|layout| {
            let kinds = |(name, kind): &(String, Kind)| {
                let known = stored.columns.iter().find(|column| column.name == *name);
                known.is_some_and(|column| column.kind == kind.name())
            };
            let plain = CsvOptions::default();
            let shape = (wanted.delimiter, wanted.quote, wanted.header);
            // What a description leaves out it does not ask for.
            (shape == (plain.delimiter, plain.quote, plain.header)
                || shape == (layout.delimiter, layout.quote, layout.header))
                && (wanted.nulls.is_empty() || wanted.nulls == layout.nulls)
                && wanted.types.iter().all(kinds)
        });
        if same {
            return Ok(());
        }
        Err("it is a governed table, which brings its own description, and csv says otherwise; leave csv out".to_owned())
    }
}

/// Opens a table that nobody described: its format is asked for, or found.
pub(crate) fn detect(
    source: Arc<dyn Source>,
    about: &ObjectInfo,
    request: TableRequest,
) -> std::result::Result<Table, TableError> {
    let (head, tail) = ends(&*source).map_err(TableError::Source)?;
    let format = request
        .format
        .or_else(|| Format::detect(&about.media_type, &about.name, &head, &tail));
    match format {
        Some(Format::Parquet) => Table::parquet(source, false),
        Some(Format::Csv) => Table::csv(source, request.csv.unwrap_or_default()),
        None => Err(TableError::Request {
            what: "neither its media type nor its name nor its first bytes say what it is; name the format, parquet \
                   or csv"
                .to_owned(),
        }),
    }
}

pub(crate) fn laid_out(dataset: &Dataset) -> Option<&TableSchema> {
    match &dataset.layout {
        Layout::Table(schema) => Some(schema),
        Layout::Records(_) => None,
    }
}

/// Opens a stored table as its governance rows describe it.
pub(crate) fn reopen(
    object: Uuid,
    source: Arc<dyn Source>,
    schema: &TableSchema,
    materialize: bool,
) -> Result<Table> {
    let differs = |reason| VaultError::TableMismatch { object, reason };
    let format = Format::parse(&schema.format)
        .ok_or_else(|| differs("its format is not known to this version"))?;
    let table = match (format, &schema.csv) {
        (Format::Parquet, _) => {
            Table::parquet(source, materialize).map_err(|e| fault(object, e))?
        }
        (Format::Csv, Some(layout)) => {
            let options =
                options(schema, layout).ok_or_else(|| differs("a column has an unknown type"))?;
            let table = Table::csv(source, options).map_err(|e| fault(object, e))?;
            let blocks = layout.blocks.iter().map(|(offset, line, rows)| Block {
                offset: *offset,
                line: *line,
                rows: *rows,
            });
            table
                .set_blocks(blocks.collect())
                .map_err(|e| fault(object, e))?;
            table
        }
        (Format::Csv, None) => return Err(differs("nothing says how its lines are written")),
    };
    let names = table.schema().fields().iter().map(|field| field.name());
    if !names.eq(schema.columns.iter().map(|column| &column.name)) {
        return Err(differs("it has other columns than its governance rows"));
    }
    if table.rows() != Some(u64::from(schema.rows)) {
        return Err(differs(
            "it has another number of rows than its governance rows",
        ));
    }
    Ok(table)
}

fn options(schema: &TableSchema, layout: &CsvLayout) -> Option<CsvOptions> {
    let types = schema
        .columns
        .iter()
        .map(|column| Some((column.name.clone(), Kind::parse(&column.kind)?)));
    Some(CsvOptions {
        delimiter: layout.delimiter,
        quote: layout.quote,
        header: layout.header,
        nulls: layout.nulls.clone(),
        types: types.collect::<Option<_>>()?,
        longest_line: layout.longest_line as usize,
        ..CsvOptions::default()
    })
}
