//! What people allow and forbid.

use aegis_policy::Change;
use pyo3::prelude::*;

use crate::error::Result;
use crate::handle::Vault;

/// People, by the names that their data came with.
type Many = Vec<String>;

/// One person, or several.
struct One(Many);

impl From<One> for Many {
    fn from(people: One) -> Self {
        people.0
    }
}

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
        people: Many,
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

/// Methods of Python by what they record, each of one person or several (`One`), or of a list (`Many`): for one purpose; for
/// one or, without any, for all; for all.
macro_rules! changes {
    (purpose: $($name:ident($who:ident: $people:ident) => $change:ident),*) => {$(
        #[pymethods]
        impl Vault {
            #[pyo3(signature = ($who, purpose, *, unknown_ok=false))]
            fn $name(&self, py: Python<'_>, $who: $people, purpose: &str, unknown_ok: bool) -> Result<u64> {
                self.change(py, Change::$change, $who.into(), Some(purpose), unknown_ok)
            }
        }
    )*};
    (one or all: $($name:ident($who:ident: $people:ident) => $change:ident),*) => {$(
        #[pymethods]
        impl Vault {
            #[pyo3(signature = ($who, purpose=None, *, unknown_ok=false))]
            fn $name(&self, py: Python<'_>, $who: $people, purpose: Option<&str>, unknown_ok: bool) -> Result<u64> {
                self.change(py, Change::$change, $who.into(), purpose, unknown_ok)
            }
        }
    )*};
    (all: $($name:ident($who:ident: $people:ident) => $change:ident),*) => {$(
        #[pymethods]
        impl Vault {
            #[pyo3(signature = ($who, *, unknown_ok=false))]
            fn $name(&self, py: Python<'_>, $who: $people, unknown_ok: bool) -> Result<u64> {
                self.change(py, Change::$change, $who.into(), None, unknown_ok)
            }
        }
    )*};
}
changes!(purpose:
    consent_grant(subjects: One) => Grant,
    consent_grant_many(subjects: Many) => Grant,
    consent_withdraw(subject: One) => Withdraw,
    consent_withdraw_many(subjects: Many) => Withdraw
);
changes!(one or all:
    consent_object(subject: One) => Object,
    consent_object_many(subjects: Many) => Object,
    consent_restrict(subject: One) => Restrict,
    consent_restrict_many(subjects: Many) => Restrict,
    consent_lift(subject: One) => Lift,
    consent_lift_many(subjects: Many) => Lift
);
changes!(all:
    consent_erase(subject: One) => Erase,
    consent_erase_many(subjects: Many) => Erase
);

#[pymethods]
impl Vault {
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
