//! What this process remembers of a vault's datasets: it never changes, or grows only. `dataset` fills and reads it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use aegis_audit::{Cursor, Log};
use aegis_policy::{Role, Subject};
use uuid::Uuid;

use crate::format::governance::Dataset;

/// Who is in which lineage, as far as this process has read. Opened when first asked.
#[derive(Default)]
pub(crate) struct Lineages(pub Mutex<Option<Register>>);

pub(crate) struct Register {
    pub log: Log,
    pub cursor: Option<Cursor>,
    /// Of the records read.
    pub hashes: Vec<[u8; 32]>,
    /// Lineages in the order they came.
    pub known: Vec<String>,
    /// Positions in `known`.
    pub of: HashMap<(Role, Subject), Vec<u32>>,
    /// Names under which the ledger of a lineage was kept before there were lineages.
    pub names: BTreeMap<String, BTreeSet<String>>,
    /// Datasets from before there were lineages are in it.
    pub adopted: bool,
}

/// Rows by person of every live dataset, as far as they were read: a dataset never changes.
#[derive(Default)]
pub(crate) struct People(pub Mutex<HashMap<Uuid, Arc<Rows>>>);

/// One dataset.
pub(crate) struct Rows {
    pub object: Uuid,
    pub purposes: BTreeSet<String>,
    pub of: HashMap<Subject, (u64, u64)>,
}

impl Rows {
    /// Rows of that person, and how many of them rest on consent.
    pub fn of(&self, person: &Subject) -> (u64, u64) {
        self.of.get(person).copied().unwrap_or_default()
    }
}

/// Governance metadata that was decrypted, by the data object, with the MAC of the file that it was read from: what is stored
/// anew is read anew.
#[derive(Default)]
pub(crate) struct Datasets(Mutex<HashMap<Uuid, Decrypted>>);

type Decrypted = ([u8; 32], Arc<Dataset>);

impl Datasets {
    /// What is known of the object, if it was read from that file.
    pub fn known(&self, object: Uuid, file: &[u8; 32]) -> Option<Arc<Dataset>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, dataset) = known.get(&object)?;
        (of == file).then(|| Arc::clone(dataset))
    }

    /// Remembers it; `live` are the objects that the keystore knows, the others are forgotten.
    pub fn keep(&self, file: [u8; 32], dataset: &Arc<Dataset>, live: impl Fn(&Uuid) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|object, _| live(object));
        known.insert(dataset.id, (file, Arc::clone(dataset)));
    }
}
