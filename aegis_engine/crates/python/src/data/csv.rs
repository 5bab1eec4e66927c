//! Formats of tables and how CSV is read.

use std::collections::BTreeMap;

use aegis_tables::{CsvOptions, Format, Kind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub fn format(name: Option<&str>) -> PyResult<Option<Format>> {
    let parse = |name: &str| {
        Format::parse(name).ok_or_else(|| {
            PyValueError::new_err(format!("{name:?} is no table format; take parquet or csv"))
        })
    };
    name.map(parse).transpose()
}

/// `aegis_engine.tables.Csv`: how a CSV file is written.
#[derive(FromPyObject)]
pub struct Csv {
    delimiter: String,
    quote: String,
    header: bool,
    nulls: Vec<String>,
    types: BTreeMap<String, String>,
    longest_line: usize,
}

impl Csv {
    pub fn options(self) -> PyResult<CsvOptions> {
        let byte = |what: &str, text: &str| match text.as_bytes() {
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err(PyValueError::new_err(format!(
                "{what} must be one ASCII character, not {text:?}"
            ))),
        };
        let kind = |(column, name): (String, String)| match Kind::parse(&name) {
            Some(kind) => Ok((column, kind)),
            None => Err(PyValueError::new_err(format!(
                "{name:?} is no type; take bool, i32, i64, f32, f64, date or text"
            ))),
        };
        Ok(CsvOptions {
            delimiter: byte("delimiter", &self.delimiter)?,
            quote: byte("quote", &self.quote)?,
            header: self.header,
            nulls: self.nulls,
            types: self.types.into_iter().map(kind).collect::<PyResult<_>>()?,
            longest_line: self.longest_line,
            ..CsvOptions::default()
        })
    }
}
