//! Fixed-size records: columns of little-endian numbers, back to back.

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
