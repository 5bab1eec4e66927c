//! One test binary: linking Cedar takes longer than running it.

mod authorize;
mod bundles;
mod consent;
mod gates;
mod one_by_one;
mod rows;
mod table;

use std::time::Duration;

use aegis_audit::Log;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::*;

/// A day all tests agree on.
pub const TODAY: u32 = 20_000;

/// The vault's key of these tests.
pub fn prove() -> Prove {
    Box::new(|data| crate::digest::sha256(&[b"the vault of the tests", data]))
}

pub struct World {
    pub dir: TempDir,
    pub engine: Engine,
    pub consent: ConsentLedger,
    pub log: Log,
}

impl World {
    pub fn new() -> Self {
        Self::with(Bundle::core())
    }

    pub fn with(bundle: Bundle) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let consent = ConsentLedger::open(&dir.path().join("consent"), "test", prove()).unwrap();
        let log = Log::open(&dir.path().join("audit"), "test").unwrap();
        Self {
            engine: Engine::new(bundle).unwrap(),
            consent,
            log,
            dir,
        }
    }

    pub fn ask(&self, request: &Request, rows: &RowIndex) -> Result<Authorized, PolicyError> {
        self.engine
            .authorize(request, &facts(), rows, None, &self.consent, &self.log)
    }

    /// Bodies of all audit records, from the disk.
    pub fn records(&self) -> Vec<Value> {
        aegis_audit::read(&self.dir.path().join("audit"))
            .unwrap()
            .map(|r| r.unwrap().body)
            .collect()
    }

    pub fn last_record(&self) -> Value {
        self.records().pop().unwrap()
    }
}

pub fn facts() -> DatasetFacts {
    DatasetFacts {
        purposes: ["research".into(), "care".into()].into(),
        columns: vec!["age".into(), "pulse".into(), "name".into()],
        approved_columns: ["age".into(), "pulse".into()].into(),
        min_rows: 4,
        min_subjects: 2,
        require_dp: true,
        require_secure_aggregation: true,
        budget_micro_epsilon: 8_000_000,
        controller: "clinic".into(),
        ..DatasetFacts::default()
    }
}

pub fn request() -> Request {
    Request {
        vault: Uuid::from_u128(1),
        object: Uuid::from_u128(2),
        action: Action::Train,
        purpose: "research".into(),
        columns: vec!["pulse".into(), "age".into()],
        run: "run-1".into(),
        round: 3,
        app_hash: "ab".into(),
        valid_for: Duration::from_mins(10),
        today: Some(TODAY),
        node: "node-1".into(),
    }
}

pub fn class(basis: &str, delete_after: Option<u32>) -> Class {
    Class {
        basis: basis.into(),
        delete_after,
        special: false,
    }
}

pub fn subject(n: u8) -> Subject {
    [n; 16]
}

/// Rows of one class; row k is of subject k / 2.
pub fn rows(class: Class, count: u8) -> RowIndex {
    RowIndex {
        classes: vec![class],
        class_of: vec![0; usize::from(count)],
        subjects: (0..count).map(|k| subject(k / 2)).collect(),
    }
}

pub fn scope_rows(permit: &Permit) -> Vec<u32> {
    match permit.scope() {
        Scope::Rows { rows, .. } => rows.iter().collect(),
        Scope::Whole => panic!("whole"),
    }
}

/// The policies of a refusal.
pub fn denied_by<T: std::fmt::Debug>(result: Result<T, PolicyError>) -> Vec<String> {
    match result.unwrap_err() {
        PolicyError::Denied {
            policies, advice, ..
        } => {
            assert!(!advice.is_empty());
            policies
        }
        other => panic!("not a denial: {other}"),
    }
}
