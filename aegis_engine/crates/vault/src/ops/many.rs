//! Storing many objects in one commit: one intent, one change of the keystore, all of them or none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_audit::Event;
use aegis_memory::Pages;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::header::CHUNK_LOG2;
use crate::format::keystore::Kind;
use crate::format::meta::Meta;
use crate::object::bulk;
use crate::object::draft::{Finished, Intent, ObjectRandomness};
use crate::object::names;
use crate::object::writer::ObjectWriter;
use crate::ops::store::{self, StoreOptions};
use crate::secret;
use crate::system::failpoint;
use crate::system::files::{self, Place};
use crate::system::outside;
use crate::vault::Exclusive;
use crate::vault::{Inner, Vault};

/// Objects in one record of the log: some 90 bytes each, so that it stays below 1 MiB.
const RECORDED: usize = 5_000;
/// Files written before they are synced: the first sync does most of the work of the others.
const WINDOW: usize = 8;

/// What an object of many is made from.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A regular file. An empty name becomes the file's.
    File(&'a Path),
    /// Bytes in memory.
    Bytes(&'a [u8]),
}

impl Vault {
    /// Stores all of `items` in one commit, and gives their ids in the same order: all appear, or none. Small objects cost
    /// little more than a copy that is synced.
    ///
    /// # Errors
    /// The first that goes wrong with any of them; nothing is stored then. Pipes and devices are
    /// [`VaultError::BadRequest`]: store them one by one.
    pub fn store_many(
        &self,
        items: &[(Item<'_>, Meta)],
        options: StoreOptions<'_>,
    ) -> Result<Vec<Uuid>> {
        self.inner.same_process()?;
        self.inner.writable()?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        for (item, meta) in items {
            match item {
                // It gets its file's name.
                Item::File(path) if meta.name.is_empty() => {
                    let name = outside::name(path)?;
                    Meta {
                        name,
                        ..meta.clone()
                    }
                    .check()?;
                }
                _ => meta.check()?,
            }
        }
        let ids = items
            .iter()
            .map(|_| secret::uuid())
            .collect::<Result<Vec<_>>>()?;
        let intent = Arc::new(Intent::many(&self.inner, &ids)?);
        let StoreOptions {
            threads,
            verify,
            progress,
        } = options;
        let done: Mutex<Vec<Option<Finished>>> = Mutex::new(items.iter().map(|_| None).collect());
        let count = bulk::workers(threads, items.len().div_ceil(WINDOW) as u64);
        bulk::striped(count, progress, |first, step, outcome| {
            let mut buffer = bulk::scratch(1 << CHUNK_LOG2)?;
            let (first, step) = (index(first) * WINDOW, index(step) * WINDOW);
            for from in (first..items.len()).step_by(step) {
                let mut window = Vec::with_capacity(WINDOW);
                for at in from..items.len().min(from + WINDOW) {
                    if !outcome.going() {
                        return Ok(());
                    }
                    let (item, meta) = &items[at];
                    let object = Object {
                        inner: &self.inner,
                        intent: &intent,
                        id: ids[at],
                        verify,
                    };
                    let finished = object.write(*item, meta.clone(), &mut buffer)?;
                    outcome.advance(finished.bytes());
                    window.push((at, finished));
                }
                for (at, mut finished) in window {
                    finished.sync()?;
                    done.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(finished);
                }
            }
            Ok(())
        })?;
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        commit(&self.inner, done.into_iter().flatten().collect(), &intent)?;
        Ok(ids)
    }
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// One of many, to be written.
struct Object<'a> {
    inner: &'a Arc<Inner>,
    intent: &'a Arc<Intent>,
    id: Uuid,
    verify: bool,
}

impl Object<'_> {
    /// Its file, whole but not durable yet.
    fn write(&self, item: Item<'_>, mut meta: Meta, buffer: &mut Pages) -> Result<Finished> {
        let seed = ObjectRandomness {
            object: self.id,
            ..ObjectRandomness::fresh()?
        };
        let begin = |meta| {
            let intent = Arc::clone(self.intent);
            ObjectWriter::begin_under(self.inner, intent, meta, CHUNK_LOG2, Kind::Data, None, seed)
        };
        let writer = match item {
            Item::Bytes(data) if data.len() <= 1 << CHUNK_LOG2 => {
                buffer[..data.len()].copy_from_slice(data);
                let mut writer = begin(meta)?;
                writer.fill_small(buffer, data.len())?;
                writer
            }
            Item::Bytes(data) => {
                let mut writer = begin(meta)?;
                writer.append(data)?;
                writer
            }
            Item::File(path) => {
                if meta.name.is_empty() {
                    meta.name = outside::name(path)?;
                }
                let (file, length) = regular(path)?;
                let mut writer = begin(meta)?;
                if length <= 1 << CHUNK_LOG2 {
                    let length = index(length);
                    read(&file, path, &mut buffer[..length])?;
                    writer.fill_small(buffer, length)?;
                } else {
                    writer.fill_from_file(&file, path, length, Some(1), None)?;
                }
                writer
            }
        };
        if self.verify {
            return writer.complete_verified();
        }
        writer.complete_unsynced()
    }
}

/// Opens a file that can be stored with others. One that says 0 bytes may be one of /proc, and is read like a pipe.
fn regular(path: &Path) -> Result<(File, u64)> {
    if !outside::is_file(path)? {
        let what = format!(
            "{} is no regular file; store pipes and devices one by one",
            path.display()
        );
        return Err(VaultError::BadRequest { what });
    }
    let file = outside::source(path)?;
    let length = file.metadata().map_err(VaultError::io("stat", path))?.len();
    if outside::made_up(&file) {
        let what = format!(
            "the size of {} is not that of its content; store it by itself",
            path.display()
        );
        return Err(VaultError::BadRequest { what });
    }
    if length == 0 {
        let mut byte = [0];
        if file
            .read_at(&mut byte, 0)
            .map_err(VaultError::io("read", path))?
            > 0
        {
            let what = format!(
                "{} says it is empty and is not; store it by itself",
                path.display()
            );
            return Err(VaultError::BadRequest { what });
        }
    }
    Ok((file, length))
}

fn read(file: &File, path: &Path, out: &mut [u8]) -> Result<()> {
    file.read_exact_at(out, 0)
        .map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => VaultError::SourceChanged,
            _ => VaultError::io("read", path)(error),
        })
}

/// Renames all files in place and writes all key records in one change.
fn commit(inner: &Inner, mut objects: Vec<Finished>, intent: &Intent) -> Result<()> {
    let mut exclusive = inner.exclusive()?;
    names::claim(&mut exclusive, &objects)?;
    // One file of each folder.
    let mut folders = BTreeMap::new();
    for object in &mut objects {
        let place = inner.paths.object(object.id());
        object.moved();
        files::rename_unsynced(&inner.paths.object_tmp(object.id()), &place)?;
        folders.insert(object.id().as_bytes()[0], place);
        store::enroll(&mut exclusive, object)?;
    }
    failpoint::point("many.renamed")?;
    for place in folders.values() {
        files::sync_parent(place)?;
    }
    record(&exclusive, &objects)?;
    failpoint::point("many.logged")?;
    exclusive.commit()?;
    failpoint::point("many.committed")?;
    intent.settle()?;
    exclusive.done()
}

fn record(exclusive: &Exclusive<'_>, objects: &[Finished]) -> Result<()> {
    for some in objects.chunks(RECORDED) {
        let list: Vec<_> = some
            .iter()
            .map(|object| {
                json!({"object": object.id().to_string(), "bytes": object.bytes(), "chunks": object.chunks})
            })
            .collect();
        let facts = json!({"objects": list, "epoch": exclusive.epoch});
        exclusive.inner.log.record(Event::StoreMany, facts)?;
    }
    Ok(())
}

/// Many stores whose writer is gone: what has no keystore record is only waste.
pub(crate) fn undo(exclusive: &Exclusive<'_>, intent: &Place, ids: &[Uuid]) -> Result<()> {
    let layout = &exclusive.inner.paths;
    let mut gone = Vec::new();
    let mut folders = BTreeMap::new();
    for id in ids {
        let mut removed = files::remove(&layout.object_tmp(*id))?;
        if exclusive.live(*id).is_err() {
            removed |= files::remove(&layout.object(*id))?;
        }
        if removed {
            folders.insert(id.as_bytes()[0], layout.object(*id));
            gone.push(id.to_string());
        }
    }
    for place in folders.values() {
        files::sync_parent(place)?;
    }
    for some in gone.chunks(2 * RECORDED) {
        let facts = json!({"objects": some});
        exclusive.inner.log.record(Event::StoreRolledBack, facts)?;
        failpoint::point("recover.logged")?;
    }
    files::remove(intent)?;
    files::sync_parent(intent)
}

/// The ids in an intent of many stores; `None` when it is torn: then nothing was written yet.
pub(crate) fn ids(intent: &[u8]) -> Option<Vec<Uuid>> {
    let (ids, rest) = intent.as_chunks::<16>();
    rest.is_empty()
        .then(|| ids.iter().map(|id| Uuid::from_bytes(*id)).collect())
}
