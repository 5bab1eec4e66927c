//! Re-encryption: the same plaintext under fresh keys, as a new object; the old keys are destroyed.

use std::sync::Arc;

use aegis_audit::Event;
use aegis_memory::Pages;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::header::TAG;
use crate::format::keystore::{Entry, KeyRecord, Kind};
use crate::format::meta::{Meta, ROWS_ATTR, Sealed};
use crate::object::draft::{Finished, ObjectRandomness};
use crate::object::file::ObjectFile;
use crate::object::keys::Resealer;
use crate::object::writer::ObjectWriter;
#[cfg(feature = "tables")]
use crate::object::written::Written;
use crate::ops::shred;
use crate::ops::store;
use crate::system::failpoint;
use crate::system::files::{self, Place};
use crate::vault::Exclusive;
use crate::vault::{Inner, Vault, now};

/// In governance rows, the id of their data object follows the magic.
const ROWS_DATA_ID: std::ops::Range<usize> = 8..24;

/// An object and what takes its place: the governance rows first, where there are any, and the data last.
pub(crate) struct Swap {
    pub old: KeyRecord,
    pub new: Vec<Finished>,
}

impl Swap {
    /// The id of what takes the place.
    pub fn new_id(&self) -> Uuid {
        self.new.last().map(Finished::id).unwrap_or_default()
    }
}

/// An object opened for re-encryption.
pub(crate) struct Source {
    pub file: ObjectFile,
    pub record: KeyRecord,
    keys: Resealer,
    sealed: Sealed,
}

impl Source {
    pub fn open(inner: &Inner, object: Uuid) -> Result<Self> {
        inner.looking(|state| {
            let record = state.body.live(object)?.clone();
            let file = ObjectFile::open(inner, &record)?;
            let (keys, meta) = file.locked(inner, &state.body, &record).resealer()?;
            file.check_size()?;
            let sealed = Sealed::decode(&meta.open_meta(&file.header)?, object)?;
            Ok(Self {
                file,
                record,
                keys,
                sealed,
            })
        })
    }

    /// Copies the plaintext chunk by chunk into `writer`; it is never in more than one cleared scratch.
    fn copy(
        &self,
        writer: &mut ObjectWriter,
        patch: Option<Uuid>,
        mut progress: Option<&mut dyn FnMut(u64)>,
    ) -> Result<()> {
        let (mut done, mut patch) = (0, patch);
        self.each(|plain, len| {
            if let Some(id) = patch.take() {
                plain[ROWS_DATA_ID].copy_from_slice(id.as_bytes());
            }
            writer.append(&plain[..len])?;
            done += len as u64;
            if let Some(report) = progress.as_mut() {
                report(done);
            }
            Ok(())
        })
    }

    /// Opens chunk by chunk, in one cleared scratch: gives it with the length of the plaintext in it.
    pub fn each(&self, mut with: impl FnMut(&mut Pages, usize) -> Result<()>) -> Result<()> {
        let chunk = self.file.header.chunk();
        let mut plain = Pages::new(chunk).map_err(VaultError::memory(chunk))?;
        let mut sealed = Pages::new(chunk + TAG).map_err(VaultError::memory(chunk + TAG))?;
        for index in 0..self.file.header.chunks {
            let len = self.file.header.chunk_len(index);
            let sealed = self.file.sealed(index, &mut sealed)?;
            if !self
                .keys
                .open(index, self.file.is_last(index), sealed, &mut plain[..len])
            {
                return Err(self.file.chunk_failed(index));
            }
            with(&mut plain, len)?;
        }
        Ok(())
    }

    /// As a table, which is decoded rather than copied.
    #[cfg(feature = "tables")]
    pub fn into_written(self) -> (KeyRecord, Written) {
        (self.record, Written::anew(self.file, self.keys))
    }

    pub fn meta(&self) -> Meta {
        Meta {
            name: self.sealed.name.clone(),
            media_type: self.sealed.media_type.clone(),
            subject: self.sealed.subject.clone(),
            attrs: self.sealed.attrs.clone(),
        }
    }
}

impl Vault {
    /// Encrypts an object (and the governance rows of a dataset) anew under fresh keys, and destroys the old keys as a
    /// shred does. The new object has a new id, which is returned, and the name, subject and attributes of the old one.
    /// `progress` gets the bytes done so far.
    pub fn reencrypt(&self, object: Uuid, progress: Option<&mut dyn FnMut(u64)>) -> Result<Uuid> {
        let inner = &self.inner;
        let source = Source::open(inner, object)?;
        if source.record.kind == Kind::Rows {
            let what = format!(
                "object {object} is the governance part of a dataset; re-encrypt the dataset"
            );
            return Err(VaultError::BadRequest { what });
        }
        let seed = ObjectRandomness {
            created: source.record.created,
            ..ObjectRandomness::fresh()?
        };
        let new = seed.object;
        let mut meta = source.meta();
        let rows = match source.record.rows {
            Some(rows) => Some(reseal_rows(inner, rows, new)?),
            None => None,
        };
        let rows_id = rows.as_ref().map(Finished::id);
        if let Some(id) = rows_id {
            meta.attrs.insert(ROWS_ATTR.to_owned(), id.to_string());
        }
        let log2 = source.file.header.chunk_log2;
        let mut writer = ObjectWriter::begin(inner, meta, log2, Kind::Data, rows_id, seed)?;
        source.copy(&mut writer, None, progress)?;
        let mut data = writer.complete()?;
        if source.record.name.is_some() {
            data.record.name.clone_from(&source.record.name);
        }
        self.replace(vec![Swap {
            old: source.record,
            new: rows.into_iter().chain([data]).collect(),
        }])?;
        Ok(new)
    }

    /// New objects appear and the old ones become tombstones in one keystore write, under a new root: all swaps, or none.
    pub(crate) fn replace(&self, swaps: Vec<Swap>) -> Result<()> {
        self.replace_with(swaps, |_| Ok(()), |_| Ok(()))
    }

    /// As [`replace`](Self::replace), with more that goes into the same keystore write. `first` is asked under the lock, before
    /// anything is in place.
    pub(crate) fn replace_with(
        &self,
        mut swaps: Vec<Swap>,
        first: impl FnOnce(&mut Exclusive<'_>) -> Result<()>,
        more: impl FnOnce(&mut Exclusive<'_>) -> Result<()>,
    ) -> Result<()> {
        let inner = &self.inner;
        let mut exclusive = inner.exclusive()?;
        // All of them, before anything of one is in place.
        let mut names = Vec::with_capacity(swaps.len());
        for Swap { old, .. } in &swaps {
            // Shredded, renamed or re-encrypted by somebody else in the meantime?
            let now_known = exclusive.live(old.object)?;
            if now_known.key_record != old.key_record {
                return Err(VaultError::Closed);
            }
            names.push(now_known.name);
        }
        first(&mut exclusive)?;
        for (Swap { new, .. }, name) in swaps.iter_mut().zip(names) {
            for object in new {
                if object.record.kind == Kind::Data && name.is_some() {
                    object.record.name.clone_from(&name);
                }
                store::place(&mut exclusive, object)?;
            }
        }
        failpoint::point("reencrypt.placed")?;
        more(&mut exclusive)?;
        let when = now();
        let mut gone = Vec::new();
        for Swap { old, new } in &swaps {
            for id in [old.object].into_iter().chain(old.rows) {
                drop(files::write_synced(&inner.paths.reencrypt_intent(id), b"")?);
                exclusive.shred(id, when);
                gone.push(id);
            }
            files::sync_parent(&inner.paths.reencrypt_intent(old.object))?;
            let facts = json!({
                "object": old.object.to_string(),
                "replaced_by": new.last().map(|object| object.id().to_string()),
                "epoch": exclusive.epoch + 1,
            });
            inner.log.record(Event::Reencrypt, facts)?;
        }
        failpoint::point("reencrypt.logged")?;
        exclusive.ratchet()?;
        failpoint::point("reencrypt.ratcheted")?;
        for object in swaps.into_iter().flat_map(|swap| swap.new) {
            object.settle()?;
        }
        record_gone(&exclusive, &gone, when)?;
        for id in &gone {
            files::remove(&inner.paths.object(*id))?;
            files::sync_parent(&inner.paths.object(*id))?;
            let intent = inner.paths.reencrypt_intent(*id);
            files::remove(&intent)?;
            files::sync_parent(&intent)?;
        }
        exclusive.done()
    }
}

/// The sidecar of a dataset names its data object; nothing else of it changes.
fn reseal_rows(inner: &Arc<Inner>, rows: Uuid, data: Uuid) -> Result<Finished> {
    let source = Source::open(inner, rows)?;
    let log2 = source.file.header.chunk_log2;
    let mut writer = ObjectWriter::begin(
        inner,
        source.meta(),
        log2,
        Kind::Rows,
        None,
        ObjectRandomness::fresh()?,
    )?;
    source.copy(&mut writer, Some(data), None)?;
    writer.complete()
}

/// On record once the old keys are gone, so that a restored keystore does not bring them back.
fn record_gone(exclusive: &Exclusive<'_>, objects: &[Uuid], when: u64) -> Result<()> {
    let proof = shred::proof(objects, when, &exclusive.state().body.node)?;
    let facts = json!({
        "objects": objects.iter().map(Uuid::to_string).collect::<Vec<_>>(),
        "when": when,
        "proof": proof,
    });
    exclusive.inner.log.record(Event::ReencryptDone, facts)?;
    failpoint::point("reencrypt.recorded")
}

/// A crash after the keystore write leaves the ciphertext of the old object: only waste, removed here.
pub(crate) fn forward(exclusive: &Exclusive<'_>, id: Uuid, intent: &Place) -> Result<()> {
    let layout = &exclusive.inner.paths;
    if let Some(Entry::Shredded { when }) = exclusive.entry(id) {
        // Perhaps a second time: whether the first was written, only the log knows.
        record_gone(exclusive, &[id], when)?;
        if files::remove(&layout.object(id))? {
            files::sync_parent(&layout.object(id))?;
        }
    }
    files::remove(intent)?;
    files::sync_parent(intent)
}
