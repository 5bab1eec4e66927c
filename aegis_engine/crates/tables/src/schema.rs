//! Arrow schemas.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};

use crate::error::{Result, TableError};

/// The schema without types whose arrays carry values of rows that were not asked for, and without metadata.
///
/// A dictionary holds the values of all rows, and a view array points into whole pages: handed out through the Arrow C
/// interface, either would take other rows' values along. Metadata (pandas puts some there) names other columns.
pub fn materialized(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(field).collect::<Fields>())
}

fn field(from: &FieldRef) -> FieldRef {
    Arc::new(Field::new(
        from.name(),
        plain(from.data_type()),
        from.is_nullable(),
    ))
}

fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => {
            DataType::LargeList(field(item))
        }
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(field(item), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

/// The schema with plain nulls in place of dictionaries of nulls, which pandas writes for a category that has no value: their
/// decoder takes none. `None` where there is no such column.
pub(crate) fn without_dictionaries_of_nulls(schema: &Schema) -> Option<Schema> {
    let fields: Fields = schema.fields().iter().map(nulls).collect();
    (fields != *schema.fields())
        .then(|| Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn nulls(from: &FieldRef) -> FieldRef {
    let kind = match from.data_type() {
        DataType::Dictionary(_, values) if **values == DataType::Null => DataType::Null,
        DataType::List(item) => DataType::List(nulls(item)),
        DataType::LargeList(item) => DataType::LargeList(nulls(item)),
        DataType::FixedSizeList(item, n) => DataType::FixedSizeList(nulls(item), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nulls).collect()),
        other => other.clone(),
    };
    Arc::new(from.as_ref().clone().with_data_type(kind))
}

/// Positions of the named columns; all of them in order without names.
pub(crate) fn positions(schema: &Schema, columns: Option<&[String]>) -> Result<Vec<usize>> {
    let Some(columns) = columns else {
        return Ok((0..schema.fields().len()).collect());
    };
    if columns.is_empty() {
        let what = "no column was asked for; name at least one".to_owned();
        return Err(TableError::Request { what });
    }
    let mut found = Vec::with_capacity(columns.len());
    for column in columns {
        let mut places = (0..schema.fields().len()).filter(|at| schema.field(*at).name() == column);
        let place = places.next().ok_or_else(|| no_column(schema, column))?;
        if places.next().is_some() || found.contains(&place) {
            let what =
                format!("column {column:?} is there or was asked for twice; rename or ask once");
            return Err(TableError::Request { what });
        }
        found.push(place);
    }
    Ok(found)
}

fn no_column(schema: &Schema, column: &str) -> TableError {
    let mut known: Vec<&str> = schema
        .fields()
        .iter()
        .take(20)
        .map(|f| f.name().as_str())
        .collect();
    if known.len() < schema.fields().len() {
        known.push("...");
    }
    TableError::NoColumn {
        column: column.to_owned(),
        known: known.join(", "),
    }
}
