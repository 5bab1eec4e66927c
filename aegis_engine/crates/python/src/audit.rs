//! Audit logs, read and verified without a vault or a key.

use std::path::PathBuf;

use aegis_audit::{AuditError, Head, Record};
use aegis_folder::AsDir;
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::convert::{digest, hex, to_python};
use crate::error::Result;

/// The record's body with its place and hash.
pub fn shown(record: Record) -> Value {
    let mut body = record.body;
    if let Value::Object(fields) = &mut body {
        fields.insert("seq".into(), record.seq.into());
        fields.insert("hash".into(), hex(&record.hash).into());
    }
    body
}

/// Records for which `keep` holds, oldest first.
pub fn select<D: AsDir + ?Sized>(
    dir: &D,
    keep: impl Fn(&Value) -> bool,
) -> std::result::Result<Vec<Value>, AuditError> {
    let mut found = Vec::new();
    for record in aegis_audit::read(dir)? {
        let record = record?;
        if keep(&record.body) {
            found.push(shown(record));
        }
    }
    Ok(found)
}

/// A head as Python gives it.
pub fn head(given: Option<(u64, Vec<u8>)>) -> Result<Option<Head>> {
    let Some((seq, hash)) = given else {
        return Ok(None);
    };
    let hash = digest(&hash)?;
    Ok(Some(Head { seq, hash }))
}

#[pyfunction]
#[pyo3(signature = (folder, *, expect=None))]
fn audit_verify(
    py: Python<'_>,
    folder: PathBuf,
    expect: Option<(u64, Vec<u8>)>,
) -> Result<Bound<'_, PyAny>> {
    let expect = head(expect)?;
    let report = py.detach(|| aegis_audit::verify(&folder, None, expect.as_ref()))?;
    let shown =
        json!({"records": report.records, "head": hex(&report.head.hash), "bytes": report.bytes});
    Ok(to_python(py, &shown)?)
}

#[pyfunction]
fn audit_read(py: Python<'_>, folder: PathBuf) -> Result<Bound<'_, PyAny>> {
    let records = py.detach(|| select(&folder, |_| true))?;
    Ok(to_python(py, &Value::Array(records))?)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(audit_verify, m)?)?;
    m.add_function(wrap_pyfunction!(audit_read, m)?)
}
