//! What people allow and forbid.

use aegis_policy::Change;
use pyo3::prelude::*;

use crate::error::Result;
use crate::handle::Vault;

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

#[pymethods]
impl Vault {
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

    /// Consent as a list that may be old gives it; see the stub.
    #[pyo3(signature = (subjects, purpose, *, unknown_ok=false))]
    fn consent_grant_unless_withdrawn(
        &self,
        py: Python<'_>,
        subjects: Vec<String>,
        purpose: &str,
        unknown_ok: bool,
    ) -> Result<(u64, u64)> {
        let effect = py.detach(|| {
            self.inner
                .grant_unless_withdrawn(&subjects, purpose, unknown_ok)
        })?;
        Ok((effect.granted, effect.withheld))
    }

    /// Which of these people have a row in a live data set.
    fn consent_known(&self, py: Python<'_>, subjects: Vec<String>) -> Result<Vec<bool>> {
        Ok(py.detach(|| self.inner.known_people(&subjects))?)
    }

    /// Which of these people are erased.
    fn consent_erased(&self, py: Python<'_>, subjects: Vec<String>) -> Result<Vec<bool>> {
        Ok(py.detach(|| -> aegis_vault::Result<_> {
            let keys = self.inner.persons(&subjects)?;
            let erased = self.inner.consent()?.erased(&keys);
            Ok(erased.map_err(aegis_policy::PolicyError::from)?)
        })?)
    }
}
