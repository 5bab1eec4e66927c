//! How the rows of a dataset are laid out: fixed-size records (columns of little-endian numbers, back to back), or a
//! table in a file format.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Result, VaultError};

/// Longest record: a batch of records must stay addressable.
const RECORD_MAX: u64 = 1 << 30;

/// Type of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed, 8 bytes.
    I64,
    /// Signed, 4 bytes.
    I32,
    /// Unsigned, 1 byte.
    U8,
}

impl Dtype {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::U8 => 1,
        }
    }

    /// The name used in schemas.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::U8 => "u8",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::F32, Self::F64, Self::I64, Self::I32, Self::U8]
            .into_iter()
            .find(|dtype| dtype.name() == name)
    }
}

/// `count` numbers of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Unique within the schema.
    pub name: String,
    /// Type of each number.
    pub dtype: Dtype,
    /// How many a record has.
    pub count: u32,
}

impl Column {
    /// Bytes in a record.
    pub fn bytes(&self) -> usize {
        self.dtype.size() * self.count as usize
    }
}

/// Layout of a dataset's object. As JSON, records are `{"columns": [...]}`, tables have `"layout": "table"` besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layout {
    /// A file of a known format.
    Table(TableSchema),
    /// Records back to back.
    Records(RecordSchema),
}

impl Layout {
    /// Name, type and values per row of each column. Types of numbers have the names of [`Dtype`], `i8`, `i16`, `u16`, `u32`,
    /// `u64` and `bool` beside them; of what is no number, the name that its format has.
    pub fn columns(&self) -> Vec<(String, String, u32)> {
        match self {
            Self::Records(schema) => schema
                .columns
                .iter()
                .map(|c| (c.name.clone(), c.dtype.name().to_owned(), c.count))
                .collect(),
            Self::Table(schema) => schema
                .columns
                .iter()
                .map(|column| {
                    let (kind, count) = numbers(&column.kind);
                    (column.name.clone(), kind.to_owned(), count)
                })
                .collect(),
        }
    }
}

/// What a column of a table is as numbers: `Int64` is `i64`, `FixedSizeList(3 x Float32)` three `f32`.
fn numbers(kind: &str) -> (&str, u32) {
    let one = |kind| match kind {
        "Boolean" => Some("bool"),
        "Float32" => Some("f32"),
        "Float64" => Some("f64"),
        "Int8" => Some("i8"),
        "Int16" => Some("i16"),
        "Int32" => Some("i32"),
        "Int64" => Some("i64"),
        "UInt8" => Some("u8"),
        "UInt16" => Some("u16"),
        "UInt32" => Some("u32"),
        "UInt64" => Some("u64"),
        _ => None,
    };
    if let Some(known) = one(kind) {
        return (known, 1);
    }
    let list = kind
        .strip_prefix("FixedSizeList(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|rest| rest.split_once(" x "));
    match list {
        Some((count, item)) => {
            // Arrow's text says more behind a comma, such as the name of the field.
            let item = item.split_once(", ").map_or(item, |(item, _)| item);
            let item = item
                .strip_prefix("nullable ")
                .or(item.strip_prefix("non-null "))
                .unwrap_or(item);
            match (count.parse(), one(item)) {
                (Ok(count), Some(known)) => (known, count),
                _ => (kind, 1),
            }
        }
        None => (kind, 1),
    }
}

/// The one value of `layout` in a [`TableSchema`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableTag {
    /// A table.
    #[default]
    Table,
}

/// A table in a file format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSchema {
    /// Says that this is a table.
    pub layout: TableTag,
    /// `parquet` or `csv`.
    pub format: String,
    /// In the order of the file.
    pub columns: Vec<TableColumn>,
    /// Rows in all.
    pub rows: u32,
    /// How a CSV file is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvLayout>,
    /// What the columns mean to those who read them, in their own words; nothing of the engine depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableColumn {
    /// Unique within the table.
    pub name: String,
    /// Type of the fields of a CSV column; for Parquet, which knows its own types, Arrow's name of it.
    #[serde(rename = "type")]
    pub kind: String,
}

/// How a CSV file is written, and where its records are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvLayout {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields.
    pub quote: u8,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Fields that mean "no value", apart from the empty one.
    pub nulls: Vec<String>,
    /// Bytes of the longest line that is read.
    pub longest_line: u32,
    /// Offset, line and number of records of each block.
    pub blocks: Vec<(u64, u64, u64)>,
}

/// Columns of a record, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSchema {
    /// In the order of their bytes.
    pub columns: Vec<Column>,
}

impl RecordSchema {
    /// Bytes of one record.
    pub fn record_len(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// Where column `name` starts, and what it is.
    pub fn find(&self, name: &str) -> Option<(usize, &Column)> {
        let mut at = 0;
        for column in &self.columns {
            if column.name == name {
                return Some((at, column));
            }
            at += column.bytes();
        }
        None
    }

    /// At least one byte a record, bounded, names unique.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |what: &str| {
            Err(VaultError::BadRequest {
                what: what.to_owned(),
            })
        };
        let total: u64 = self
            .columns
            .iter()
            .map(|c| c.dtype.size() as u64 * u64::from(c.count))
            .sum();
        if total == 0 || total > RECORD_MAX {
            return bad("a record must have 1 byte to 1 GiB; correct the columns of the schema");
        }
        let names: BTreeSet<&str> = self
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        if names.len() != self.columns.len() || names.contains("") {
            return bad("column names must be unique and not empty; correct the schema");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_tables_are_numbers_where_they_can_be() {
        for (kind, found) in [
            ("Int64", ("i64", 1)),
            ("Boolean", ("bool", 1)),
            ("f32", ("f32", 1)),
            ("FixedSizeList(3 x Float32)", ("f32", 3)),
            ("FixedSizeList(3 x nullable Float32)", ("f32", 3)),
            ("FixedSizeList(3 x Float32, field: 'element')", ("f32", 3)),
            ("FixedSizeList(3 x Utf8)", ("FixedSizeList(3 x Utf8)", 1)),
            ("Utf8", ("Utf8", 1)),
            (
                "Timestamp(Millisecond, None)",
                ("Timestamp(Millisecond, None)", 1),
            ),
        ] {
            assert_eq!(numbers(kind), found);
        }
    }

    /// What versions before tables wrote.
    #[test]
    fn governance_rows_of_records_still_parse_and_are_still_written_alike() {
        let old = r#"{"columns":[{"name":"height","dtype":"f32","count":1}]}"#;
        let layout: Layout = serde_json::from_str(old).unwrap();
        assert!(matches!(&layout, Layout::Records(schema) if schema.record_len() == 4));
        assert_eq!(serde_json::to_string(&layout).unwrap(), old);
    }

    #[test]
    fn tables_parse_as_tables_and_unknown_fields_are_refused() {
        let table = r#"{"layout":"table","format":"parquet","columns":[{"name":"x","type":"Int64"}],"rows":3}"#;
        let layout: Layout = serde_json::from_str(table).unwrap();
        assert!(matches!(&layout, Layout::Table(schema) if schema.rows == 3));
        assert_eq!(serde_json::to_string(&layout).unwrap(), table);
        let other = table.replace("\"rows\"", "\"more\":1,\"rows\"");
        assert!(serde_json::from_str::<Layout>(&other).is_err());
    }
}
