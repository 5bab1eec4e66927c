//! Audit logs, read and verified without a vault or a key.

use std::path::PathBuf;
use std::sync::PoisonError;

use aegis_audit::{AuditError, Head, Record};
use aegis_folder::AsDir;
use data_encoding::HEXLOWER;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::{Value, json};

use crate::convert::{digest, to_json, to_python};
use crate::error::Result;
use crate::handle::Vault;

/// The record's body with its place and hash.
pub fn shown(record: Record) -> Value {
    let mut body = record.body;
    if let Value::Object(fields) = &mut body {
        fields.insert("seq".into(), record.seq.into());
        fields.insert("hash".into(), HEXLOWER.encode(&record.hash).into());
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
pub fn audit_verify(
    py: Python<'_>,
    folder: PathBuf,
    expect: Option<(u64, Vec<u8>)>,
) -> Result<Bound<'_, PyAny>> {
    let expect = head(expect)?;
    let report = py.detach(|| aegis_audit::verify(&folder, None, expect.as_ref()))?;
    let shown = json!({"records": report.records, "head": HEXLOWER.encode(&report.head.hash), "bytes": report.bytes});
    Ok(to_python(py, &shown)?)
}

#[pyfunction]
pub fn audit_read(py: Python<'_>, folder: PathBuf) -> Result<Bound<'_, PyAny>> {
    let records = py.detach(|| select(&folder, |_| true))?;
    Ok(to_python(py, &Value::Array(records))?)
}

/// The fields of a record.
fn fields(facts: &Bound<'_, PyDict>) -> Result<serde_json::Map<String, Value>> {
    match to_json(facts)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(PyValueError::new_err("the facts of a record are a dict").into()),
    }
}

#[pymethods]
impl Vault {
    /// Writes a record of an application into the audit log, durably.
    fn record(&self, py: Python<'_>, event: &str, facts: &Bound<'_, PyDict>) -> Result<u64> {
        let facts = fields(facts)?;
        Ok(py.detach(|| self.inner.record(event, facts))?.seq)
    }

    /// Writes a record of the plugin.
    fn record_plugin(&self, py: Python<'_>, event: &str, facts: &Bound<'_, PyDict>) -> Result<u64> {
        let facts = fields(facts)?;
        Ok(py.detach(|| self.inner.record_plugin(event, facts))?.seq)
    }

    /// Commits how far a log or ledger outside the keystore has come.
    fn commit_head(&self, py: Python<'_>, name: &str, count: u64, mac: &[u8]) -> Result<()> {
        let mac = digest(mac)?;
        Ok(py.detach(|| self.inner.commit_head(name, count, mac))?)
    }

    /// The head committed last under `name`: count and MAC.
    fn head<'py>(&self, py: Python<'py>, name: &str) -> Result<Option<(u64, Bound<'py, PyBytes>)>> {
        let head = py.detach(|| self.inner.head(name))?;
        Ok(head.map(|head| (head.count, PyBytes::new(py, &head.mac))))
    }

    /// Records and hash of the newest state of the log.
    fn audit_head<'py>(&self, py: Python<'py>) -> Result<(u64, Bound<'py, PyBytes>)> {
        let head = py.detach(|| self.inner.audit().newest())?;
        Ok((head.seq, PyBytes::new(py, &head.hash)))
    }

    fn audit_records<'py>(&self, py: Python<'py>, event: &str) -> Result<Bound<'py, PyAny>> {
        let folder = self.inner.folder().place("audit");
        let found = py.detach(|| select(&folder, |body| body["event"] == event))?;
        Ok(to_python(py, &Value::Array(found))?)
    }

    fn audit_find_last<'py>(
        &self,
        py: Python<'py>,
        event: &str,
        field: &str,
        value: &str,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let folder = self.inner.folder().place("audit");
        let asked = (event.to_owned(), field.to_owned(), value.to_owned());
        let last = py.detach(|| -> Result<_> {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let (from, mut last) = found.remove(&asked).unzip();
            let mut records = match from {
                Some(cursor) => aegis_audit::read_from(&folder, cursor)?,
                None => aegis_audit::read(&folder)?,
            };
            let mut last = last.take().flatten();
            for record in records.by_ref() {
                let record = record?;
                if record.body["event"] == event && record.body[field] == value {
                    last = Some(record);
                }
            }
            found.insert(asked, (records.cursor(), last.clone()));
            Ok(last)
        })?;
        Ok(last
            .map(|record| to_python(py, &shown(record)))
            .transpose()?)
    }

    /// A MAC that only this vault can make.
    fn proof<'py>(
        &self,
        py: Python<'py>,
        domain: &str,
        data: &[u8],
    ) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner.proof(domain, data)?))
    }

    /// Whether `proof` is the one of `data`.
    fn check_proof(&self, domain: &str, data: &[u8], proof: &[u8]) -> Result<bool> {
        Ok(self.inner.check_proof(domain, data, proof)?)
    }

    fn mac<'py>(&self, py: Python<'py>, domain: &str, data: &[u8]) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner.mac(domain, data)?))
    }

    fn seal_blob<'py>(
        &self,
        py: Python<'py>,
        domain: &str,
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner.seal_blob(domain, aad, plain)?))
    }

    fn open_blob<'py>(
        &self,
        py: Python<'py>,
        domain: &str,
        aad: &[u8],
        blob: &[u8],
    ) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner.open_blob(domain, aad, blob)?))
    }
}
