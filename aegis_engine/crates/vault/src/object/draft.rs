//! An object on its way: its random numbers, its intent, its files until the keystore knows it.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::KeyRecord;
use crate::secret::{self, Secret};
use crate::system::failpoint;
use crate::system::files::{self, Place};
use crate::system::lock;
use crate::vault::{Inner, now};

/// Everything random of one object; tests fix it.
pub(crate) struct ObjectRandomness {
    pub object: Uuid,
    pub key_record: Uuid,
    pub salt: [u8; 32],
    pub dek: Secret<32>,
    pub created: u64,
}

impl ObjectRandomness {
    pub fn fresh() -> Result<Self> {
        Ok(Self {
            object: secret::uuid()?,
            key_record: secret::uuid()?,
            salt: secret::random()?,
            dek: Secret::random()?,
            created: now(),
        })
    }
}

/// Tells a recovery which objects somebody works on: locked while the writer lives, removed when nothing is left to undo.
pub(crate) struct Intent {
    path: Place,
    _locked: File,
    /// Files may be in place: recovery decides.
    kept: AtomicBool,
}

impl Intent {
    pub fn one(inner: &Inner, object: Uuid) -> Result<Self> {
        Self::write(inner, inner.paths.store_intent(object), b"")
    }

    /// Of many objects: their ids, back to back.
    pub fn many(inner: &Inner, ids: &[Uuid]) -> Result<Self> {
        let first = ids.first().copied().unwrap_or_default();
        let bytes: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        Self::write(inner, inner.paths.stores_intent(first), &bytes)
    }

    fn write(inner: &Inner, path: Place, bytes: &[u8]) -> Result<Self> {
        // Recovery holds the vault's lock exclusively: between its creation and its own lock it cannot see the intent.
        let held = lock::shared(&inner.paths.lock(), inner.lock_wait())?;
        let locked = inner.unless_destroyed(files::write_synced(&path, bytes))?;
        if !lock::take(&locked) {
            return Err(VaultError::Closed); // a fresh random id: nobody else can hold it
        }
        drop(held);
        failpoint::point("writer.intent")?;
        Ok(Self {
            path,
            _locked: locked,
            kept: AtomicBool::new(false),
        })
    }

    /// After the keystore has the records: nothing is left to undo.
    pub fn settle(&self) -> Result<()> {
        self.kept.store(true, Ordering::Release);
        files::remove(&self.path).map(drop)
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            // Best effort: what stays is ciphertext without a key, and recovery removes it.
            let _ = files::remove(&self.path);
        }
    }
}

/// Files of an object that is not committed yet: removed on drop, unless they may already be in use.
pub(crate) struct Draft {
    pub inner: Arc<Inner>,
    pub object: Uuid,
    pub intent: Arc<Intent>,
    pub renamed: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            let layout = &self.inner.paths;
            // Best effort: what stays is ciphertext without a key, and recovery removes it.
            let _ = files::remove(&layout.object_tmp(self.object));
        }
    }
}

/// An object whose file is complete and durable, without a key record.
pub(crate) struct Finished {
    pub draft: Draft,
    /// Until it is synced.
    pub file: Option<File>,
    pub dek: Secret<32>,
    pub subject: Option<String>,
    pub record: KeyRecord,
    pub chunks: u64,
}

impl Finished {
    pub fn id(&self) -> Uuid {
        self.record.object
    }

    /// Its plaintext bytes.
    pub fn bytes(&self) -> u64 {
        self.record.length
    }

    /// From here on its file may be in place, and recovery decides.
    pub fn moved(&mut self) {
        self.draft.renamed = true;
        self.draft.intent.kept.store(true, Ordering::Release);
    }

    /// Makes the file durable under its temporary name.
    pub fn sync(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let path = self.draft.inner.paths.object_tmp(self.record.object);
        file.sync_all().map_err(VaultError::io("fsync", &path))?;
        failpoint::point("store.synced")
    }

    /// After the keystore has its record: nothing is left to undo.
    pub fn settle(self) -> Result<()> {
        self.draft.intent.settle()
    }
}
