//! Vaults: storing, listing, shredding, consent, audit.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aegis_audit::{Cursor, Record};
use aegis_policy::{Change, Class, DatasetFacts, RowIndex};
use aegis_vault::{Column, Dtype, Meta, RecordSchema, Secret, VaultError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::audit::{select, shown};
use crate::buffer::Bytes;
use crate::convert::{digest, to_json, to_python, uuid};
use crate::error::Result;
use crate::keys::KeyProvider;
use crate::policy::{Permit, action, bundle, keep};
use crate::readers::RecordReader;

/// Event, field, value.
type Asked = (String, String, String);
/// Where a search ended, and the newest record until there.
type Found = (Cursor, Option<Record>);

#[pyclass(frozen, module = "aegis_engine")]
pub struct Vault {
    pub inner: aegis_vault::Vault,
    key: Mutex<KeyProvider>,
    /// What was found in the log before, and where that search ended: the next one goes on there.
    found: Mutex<HashMap<Asked, Found>>,
}

impl Vault {
    pub fn with_key(inner: aegis_vault::Vault, key: KeyProvider) -> Self {
        Self {
            inner,
            key: Mutex::new(key),
            found: Mutex::default(),
        }
    }

    /// The provider it was opened with, or was rotated to.
    pub fn key(&self, py: Python<'_>) -> KeyProvider {
        self.key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_ref(py)
    }

    pub fn remember_key(&self, key: KeyProvider) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

/// Writes a new random key; refuses a path that exists.
fn new_key(path: &Path) -> Result<()> {
    let refuse = |e: std::io::Error| VaultError::ProviderError {
        reason: format!(
            "cannot make key file {}: {e}; choose a new path in a folder you may write",
            path.display()
        ),
    };
    let key = Secret::<32>::random()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(refuse)?;
    file.write_all(key.expose())
        .and_then(|()| file.sync_all())
        .map_err(refuse)?;
    Ok(())
}

/// The fields of a record.
fn fields(facts: &Bound<'_, PyDict>) -> Result<serde_json::Map<String, Value>> {
    match to_json(facts)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(PyValueError::new_err("the facts of a record are a dict").into()),
    }
}

fn info(o: aegis_vault::ObjectInfo) -> Value {
    json!({
        "id": o.id.to_string(), "name": o.name, "media_type": o.media_type, "subject": o.subject, "attrs": o.attrs,
        "created": o.created, "bytes": o.bytes, "chunks": o.chunks, "chunk_bytes": o.chunk_bytes,
    })
}

#[pymethods]
impl Vault {
    #[staticmethod]
    #[pyo3(signature = (path, key=None, *, key_file=None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
    ) -> Result<Self> {
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let inner = py.detach(|| aegis_vault::Vault::open_or_create(&path, &key.provider))?;
        Ok(Self::with_key(inner, key))
    }

    #[staticmethod]
    #[pyo3(signature = (path, key=None, *, key_file=None, make_key=false))]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
        make_key: bool,
    ) -> Result<Self> {
        if make_key {
            let Some(file) = &key_file else {
                return Err(PyValueError::new_err(
                    "make_key needs key_file, the path to write the new key to",
                )
                .into());
            };
            new_key(file)?;
        }
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let inner = py.detach(|| aegis_vault::Vault::create(&path, &key.provider))?;
        Ok(Self::with_key(inner, key))
    }

    #[staticmethod]
    #[pyo3(signature = (path, key=None, *, key_file=None))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        key: Option<&Bound<'_, PyAny>>,
        key_file: Option<PathBuf>,
    ) -> Result<Self> {
        let key = KeyProvider::from_arguments(py, key, key_file)?;
        let inner = py.detach(|| aegis_vault::Vault::open(&path, &key.provider))?;
        Ok(Self::with_key(inner, key))
    }

    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.inner.path().to_path_buf()
    }

    #[getter]
    fn epoch(&self) -> Result<u64> {
        Ok(self.inner.epoch()?)
    }

    #[getter]
    fn governed(&self) -> Result<bool> {
        Ok(self.inner.bundle_hash()?.is_some())
    }

    #[pyo3(signature = (name, *, replace=None))]
    fn govern(&self, py: Python<'_>, name: &str, replace: Option<&Permit>) -> Result<()> {
        let bundle = bundle(name)?;
        let permit = replace.map(|permit| Arc::clone(&permit.inner));
        py.detach(|| {
            match permit {
                Some(permit) => self.inner.govern_replacing(&bundle, &permit)?,
                None => self.inner.govern(&bundle)?,
            }
            // A refused bundle leaves no copy.
            if name != "core" {
                keep(&bundle, Path::new(name), self.inner.folder())?;
            }
            Ok(())
        })
    }

    #[pyo3(signature = (name, schema, data, subjects, classes, facts, class_of=None))]
    fn store_records(
        &self,
        py: Python<'_>,
        name: &str,
        schema: Vec<(String, String, u32)>,
        data: &Bound<'_, PyAny>,
        subjects: Vec<String>,
        classes: Vec<(String, Option<u32>, bool)>,
        facts: &Bound<'_, PyDict>,
        class_of: Option<Vec<u16>>,
    ) -> Result<String> {
        let none = Vec::new();
        self.store_records_granting(
            py, name, schema, data, subjects, classes, facts, class_of, none,
        )
        .map(|(id, _)| id)
    }

    /// As `store_records`, with consent of everybody who never withdrew it.
    #[pyo3(signature = (name, schema, data, subjects, classes, facts, class_of=None, *, grant))]
    fn store_records_granting(
        &self,
        py: Python<'_>,
        name: &str,
        schema: Vec<(String, String, u32)>,
        data: &Bound<'_, PyAny>,
        subjects: Vec<String>,
        classes: Vec<(String, Option<u32>, bool)>,
        facts: &Bound<'_, PyDict>,
        class_of: Option<Vec<u16>>,
        grant: Vec<String>,
    ) -> Result<(String, Consents)> {
        let data = Bytes::of(data)?;
        let facts: DatasetFacts = serde_json::from_value(to_json(facts)?)
            .map_err(|e| PyValueError::new_err(format!("terms of the data set: {e}")))?;
        let columns = schema
            .into_iter()
            .map(|(name, dtype, count)| {
                let dtype = Dtype::parse(&dtype).ok_or_else(|| {
                    PyValueError::new_err(format!(
                        "{dtype:?} is no dtype; take f32, f64, i64, i32 or u8"
                    ))
                })?;
                Ok(Column { name, dtype, count })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let (id, granted) = py.detach(|| -> Result<_> {
            let subjects = self.inner.persons(&subjects)?;
            let index = RowIndex {
                classes: classes
                    .into_iter()
                    .map(|(basis, delete_after, special)| Class {
                        basis,
                        delete_after,
                        special,
                    })
                    .collect(),
                class_of: class_of.unwrap_or_else(|| vec![0; subjects.len()]),
                subjects,
            };
            Ok(self.inner.store_records_granting(
                Meta::named(name),
                &RecordSchema { columns },
                data.as_slice(),
                &index,
                &facts,
                &grant,
            )?)
        })?;
        let told = granted
            .into_iter()
            .map(|g| (g.purpose, g.granted, g.withheld));
        Ok((id.to_string(), told.collect()))
    }

    fn list<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let all = py.detach(|| self.inner.list())?;
        Ok(to_python(
            py,
            &Value::Array(all.into_iter().map(info).collect()),
        )?)
    }

    fn stat<'py>(&self, py: Python<'py>, object: &Bound<'_, PyAny>) -> Result<Bound<'py, PyAny>> {
        let id = object_id(object)?;
        let one = py.detach(|| self.inner.stat(id))?;
        Ok(to_python(py, &info(one))?)
    }

    /// Ids of everything stored, governance rows of data sets included.
    fn object_ids(&self, py: Python<'_>) -> Result<Vec<String>> {
        let all = py.detach(|| self.inner.list())?;
        Ok(all
            .into_iter()
            .flat_map(|mut o| [Some(o.id.to_string()), o.attrs.remove("aegis.rows")])
            .flatten()
            .collect())
    }

    /// Data sets of records: name to id.
    fn datasets(&self, py: Python<'_>) -> Result<BTreeMap<String, String>> {
        let sets = py.detach(|| self.inner.datasets())?;
        Ok(sets
            .into_iter()
            .map(|(name, id)| (name, id.to_string()))
            .collect())
    }

    /// The lineage of a data set: the key of its privacy ledger. The oldest where it has several.
    fn lineage(&self, py: Python<'_>, dataset: &str) -> Result<String> {
        let mut all = self.lineages(py, dataset)?;
        Ok(all.swap_remove(0))
    }

    /// All lineages whose budget a data set spends, the oldest first.
    fn lineages(&self, py: Python<'_>, dataset: &str) -> Result<Vec<String>> {
        Ok(py.detach(|| {
            let id = self.inner.find_dataset(dataset)?;
            self.inner.lineages(id)
        })?)
    }

    /// Names under which earlier versions kept the privacy ledger of a lineage.
    fn lineage_names(&self, py: Python<'_>, lineage: &str) -> Result<Vec<String>> {
        Ok(py.detach(|| self.inner.lineage_names(lineage))?)
    }

    /// The owner's permit, on a vault without a policy bundle.
    #[pyo3(signature = (object, action_name="read"))]
    fn owner_permit(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        action_name: &str,
    ) -> Result<Permit> {
        let (id, action) = (object_id(object)?, action(action_name)?);
        Ok(Permit {
            inner: Arc::new(py.detach(|| self.inner.owner_permit(id, action))?),
        })
    }

    /// Refuses a permit that has ended.
    fn admit(&self, permit: &Permit) -> Result<()> {
        Ok(self.inner.admit(&permit.inner)?)
    }

    fn records(&self, py: Python<'_>, permit: &Permit) -> Result<RecordReader> {
        let permit = Arc::clone(&permit.inner);
        Ok(RecordReader {
            inner: Arc::new(py.detach(|| self.inner.records(&permit, permit.object()))?),
        })
    }

    // -- consent ----------------------------------------------------------------------------------------------------

    #[pyo3(signature = (subjects, purpose, *, unknown_ok=false))]
    fn consent_grant(
        &self,
        py: Python<'_>,
        subjects: One,
        purpose: &str,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Grant, subjects.0, Some(purpose), unknown_ok)
    }

    #[pyo3(signature = (subjects, purpose, *, unknown_ok=false))]
    fn consent_grant_many(
        &self,
        py: Python<'_>,
        subjects: Vec<String>,
        purpose: &str,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Grant, subjects, Some(purpose), unknown_ok)
    }

    #[pyo3(signature = (subject, purpose, *, unknown_ok=false))]
    fn consent_withdraw(
        &self,
        py: Python<'_>,
        subject: One,
        purpose: &str,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Withdraw, subject.0, Some(purpose), unknown_ok)
    }

    #[pyo3(signature = (subjects, purpose, *, unknown_ok=false))]
    fn consent_withdraw_many(
        &self,
        py: Python<'_>,
        subjects: Vec<String>,
        purpose: &str,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Withdraw, subjects, Some(purpose), unknown_ok)
    }

    #[pyo3(signature = (subject, purpose=None, *, unknown_ok=false))]
    fn consent_object(
        &self,
        py: Python<'_>,
        subject: One,
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Object, subject.0, purpose, unknown_ok)
    }

    #[pyo3(signature = (subjects, purpose=None, *, unknown_ok=false))]
    fn consent_object_many(
        &self,
        py: Python<'_>,
        subjects: Vec<String>,
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Object, subjects, purpose, unknown_ok)
    }

    #[pyo3(signature = (subject, purpose=None, *, unknown_ok=false))]
    fn consent_restrict(
        &self,
        py: Python<'_>,
        subject: One,
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Restrict, subject.0, purpose, unknown_ok)
    }

    #[pyo3(signature = (subjects, purpose=None, *, unknown_ok=false))]
    fn consent_restrict_many(
        &self,
        py: Python<'_>,
        subjects: Vec<String>,
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Restrict, subjects, purpose, unknown_ok)
    }

    #[pyo3(signature = (subject, purpose=None, *, unknown_ok=false))]
    fn consent_lift(
        &self,
        py: Python<'_>,
        subject: One,
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Lift, subject.0, purpose, unknown_ok)
    }

    #[pyo3(signature = (subjects, purpose=None, *, unknown_ok=false))]
    fn consent_lift_many(
        &self,
        py: Python<'_>,
        subjects: Vec<String>,
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Lift, subjects, purpose, unknown_ok)
    }

    #[pyo3(signature = (subject, *, unknown_ok=false))]
    fn consent_erase(&self, py: Python<'_>, subject: One, unknown_ok: bool) -> Result<u64> {
        self.change(py, Change::Erase, subject.0, None, unknown_ok)
    }

    #[pyo3(signature = (subjects, *, unknown_ok=false))]
    fn consent_erase_many(
        &self,
        py: Python<'_>,
        subjects: Vec<String>,
        unknown_ok: bool,
    ) -> Result<u64> {
        self.change(py, Change::Erase, subjects, None, unknown_ok)
    }

    /// Which of these people are erased.
    fn consent_erased(&self, py: Python<'_>, subjects: Vec<String>) -> Result<Vec<bool>> {
        Ok(py.detach(|| -> aegis_vault::Result<_> {
            let keys = self.inner.persons(&subjects)?;
            let erased = self.inner.consent()?.erased(&keys);
            Ok(erased.map_err(aegis_policy::PolicyError::from)?)
        })?)
    }

    #[pyo3(signature = (subject, *, require=None))]
    fn erase_person<'py>(
        &self,
        py: Python<'py>,
        subject: &str,
        require: Option<&str>,
    ) -> Result<Bound<'py, PyAny>> {
        let level = crate::manage::level(require)?;
        let receipt = py.detach(|| self.inner.erase_person(subject, level))?;
        crate::manage::json(py, &receipt)
    }

    // -- audit ------------------------------------------------------------------------------------------------------

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

    // -- keyed helpers ----------------------------------------------------------------------------------------------

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

    fn __repr__(&self) -> String {
        format!(
            "<Vault {} at {}>",
            self.inner.id(),
            self.inner.path().display()
        )
    }
}

/// By purpose: people who have consent now and had none, people from whom it was withheld.
type Consents = Vec<(String, u64, u64)>;

/// One person, or several.
struct One(Vec<String>);

impl<'a, 'py> FromPyObject<'a, 'py> for One {
    type Error = PyErr;

    fn extract(value: pyo3::Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match value.extract::<String>() {
            Ok(one) => Ok(Self(vec![one])),
            Err(_) => Ok(Self(value.extract()?)),
        }
    }
}

impl Vault {
    /// Records a change; gives the rows of live data sets that it governs.
    fn change(
        &self,
        py: Python<'_>,
        change: Change,
        people: Vec<String>,
        purpose: Option<&str>,
        unknown_ok: bool,
    ) -> Result<u64> {
        let effect = py.detach(|| {
            self.inner
                .change_consent(change, &people, purpose, unknown_ok)
        })?;
        Ok(effect.rows)
    }
}

pub fn python_uuid(py: Python<'_>, id: Uuid) -> Result<Bound<'_, PyAny>> {
    Ok(py
        .import("uuid")?
        .getattr("UUID")?
        .call1((id.to_string(),))?)
}

/// An id as text or `uuid.UUID`.
pub fn object_id(value: &Bound<'_, PyAny>) -> PyResult<Uuid> {
    uuid(&value.str()?.to_string_lossy())
}

/// A name in its one spelling: of a person, a purpose, a data set.
#[pyfunction]
fn normal_name(text: &str) -> Result<String> {
    let one = aegis_policy::words::normal(text).map_err(|flaw| {
        aegis_policy::PolicyError::from(aegis_policy::ConsentError::BadName { flaw })
    });
    Ok(one?)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(normal_name, m)?)?;
    m.add_class::<Vault>()
}
