//! Storing: finished files are renamed into place, then their key records are committed in one keystore write.

use std::io::{self, Read};
use std::path::Path;

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::header::CHUNK_LOG2;
use crate::format::keystore::{Entry, Kind};
use crate::format::meta::Meta;
use crate::kdf::{self, Prk};
use crate::object::draft::{Finished, ObjectRandomness};
use crate::object::keys;
use crate::object::names;
use crate::object::writer::ObjectWriter;
use crate::secret::{self, Secret};
use crate::system::failpoint;
use crate::system::files;
use crate::system::outside;
use crate::vault::Exclusive;
use crate::vault::{Inner, Vault};

/// Renames the files in place, then writes all key records in one keystore write: all objects appear, or none.
pub(crate) fn commit(inner: &Inner, objects: Vec<Finished>) -> Result<()> {
    commit_with(inner, objects, |_| Ok(()), |_| Ok(()))
}

/// As [`commit`], with more that goes into the same keystore write. `first` is asked under the lock, before anything is in place.
pub(crate) fn commit_with(
    inner: &Inner,
    mut objects: Vec<Finished>,
    first: impl FnOnce(&mut Exclusive<'_>) -> Result<()>,
    more: impl FnOnce(&mut Exclusive<'_>) -> Result<()>,
) -> Result<()> {
    let mut exclusive = inner.exclusive()?;
    names::claim(&mut exclusive, &objects)?;
    first(&mut exclusive)?;
    for object in &mut objects {
        place(&mut exclusive, object)?;
    }
    failpoint::point("store.renamed")?;
    more(&mut exclusive)?;
    exclusive.commit()?;
    failpoint::point("store.committed")?;
    for object in objects {
        object.settle()?;
    }
    failpoint::point("store.settled")?;
    exclusive.done()
}

/// Renames one file in place and adds its key record, with a record in the log; the keystore is not written yet.
pub(crate) fn place(exclusive: &mut Exclusive<'_>, object: &mut Finished) -> Result<()> {
    let inner = exclusive.inner;
    let id = object.id();
    object.moved();
    files::rename(&inner.paths.object_tmp(id), &inner.paths.object(id))?;
    failpoint::point("place.renamed")?;
    enroll(exclusive, object)?;
    let record = &object.record;
    let facts = json!({
        "object": id.to_string(),
        "bytes": record.length,
        "chunks": object.chunks,
        "kind": if record.kind == Kind::Rows { "rows" } else { "data" },
        "epoch": exclusive.epoch,
    });
    inner.log.record(Event::Store, facts)?;
    failpoint::point("place.logged")
}

/// Gives an object whose file is in place its key record, in the next commit.
pub(crate) fn enroll(exclusive: &mut Exclusive<'_>, object: &mut Finished) -> Result<()> {
    let inner = exclusive.inner;
    let record = &mut object.record;
    record.subject = subject_id(&exclusive.state().body.node, object.subject.as_deref())?;
    let aad = keys::wrap_aad(inner.id, record.key_record, record.subject, record.object);
    record.wrapped = exclusive.subject(record.subject, |key| keys::wrap(key, &aad, &object.dek))?;
    let entry = Entry::Live(Box::new(record.clone()));
    exclusive.put(record.object, entry);
    Ok(())
}

/// A named subject has the same id in every object; an object without one gets its own.
pub(crate) fn subject_id(node: &Secret<32>, subject: Option<&str>) -> Result<[u8; 16]> {
    let Some(subject) = subject else {
        return secret::random();
    };
    match aegis_policy::words::normal(subject) {
        Ok(one) => subject_id_as_spelt(node, &one),
        Err(_) => subject_id_as_spelt(node, subject),
    }
}

/// The id that earlier versions gave a name, whichever way it was spelt.
pub(crate) fn subject_id_as_spelt(node: &Secret<32>, subject: &str) -> Result<[u8; 16]> {
    let key = Prk::extract(b"aegis/v1/node", node.expose()).expand(&[b"aegis/v1/subject-id"])?;
    let mut id = [0; 16];
    id.copy_from_slice(&kdf::mac(&key, &[subject.as_bytes()])[..16]);
    Ok(id)
}

/// How to store.
#[derive(Default)]
pub struct StoreOptions<'a> {
    /// Threads that seal; `None` = one a core, four at most.
    pub threads: Option<usize>,
    /// Read back and authenticate every byte before the object counts.
    pub verify: bool,
    /// Gets the bytes done so far; false stops, and nothing is stored.
    pub progress: Option<&'a mut (dyn FnMut(u64) -> bool + Send)>,
}

impl Vault {
    /// Starts an object of unknown length, in chunks of 1 MiB.
    pub fn writer(&self, meta: Meta) -> Result<ObjectWriter> {
        self.writer_chunked(meta, CHUNK_LOG2)
    }

    /// As [`writer`](Self::writer) with chunks of `2^chunk_log2` bytes, 12 to 24: small chunks for random access.
    pub fn writer_chunked(&self, meta: Meta, chunk_log2: u8) -> Result<ObjectWriter> {
        meta.check()?;
        names::look(&self.inner, &meta.name, names::Asker::Plain)?;
        ObjectWriter::begin(
            &self.inner,
            meta,
            chunk_log2,
            Kind::Data,
            None,
            ObjectRandomness::fresh()?,
        )
    }

    /// Stores a file on several threads; memory does not depend on its size. An empty name becomes the file's name. A file
    /// that grows meanwhile is stored as long as it was at the start; pipes and devices are read to their end.
    pub fn store_file(
        &self,
        source: &Path,
        mut meta: Meta,
        options: StoreOptions<'_>,
    ) -> Result<Uuid> {
        if meta.name.is_empty() {
            meta.name = outside::name(source)?;
        }
        let file = outside::source(source)?;
        let about = file.metadata().map_err(VaultError::io("stat", source))?;
        // Files of /proc are regular and say 0, those of /sys say a page: read them like a pipe.
        if !about.is_file() || about.len() == 0 || outside::made_up(&file) {
            let mut from = &file;
            return self.store_stream(
                &mut |out| loop {
                    match from.read(out) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        read => return read.map_err(VaultError::io("read", source)),
                    }
                },
                meta,
                options,
            );
        }
        // Only advice: a system that does not take it reads as well.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        let mut writer = self.writer(meta)?;
        let StoreOptions {
            threads,
            verify,
            progress,
        } = options;
        writer.fill_from_file(&file, source, about.len(), threads, progress)?;
        finish(writer, verify)
    }

    /// Stores a stream of unknown length. `read` fills what it is given as far as it can; 0 is the end.
    pub fn store_stream(
        &self,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
        meta: Meta,
        options: StoreOptions<'_>,
    ) -> Result<Uuid> {
        let mut writer = self.writer(meta)?;
        writer.fill_from_stream(read, options.threads, options.progress)?;
        finish(writer, options.verify)
    }

    /// Stores bytes from memory.
    pub fn store_bytes(&self, data: &[u8], meta: Meta) -> Result<Uuid> {
        let mut writer = self.writer(meta)?;
        writer.append(data)?;
        writer.finish()
    }
}

impl ObjectWriter {
    /// Makes the object durable and visible, and returns its id.
    pub fn finish(self) -> Result<Uuid> {
        let inner = self.inner();
        let finished = self.complete()?;
        let id = finished.id();
        commit(&inner, vec![finished])?;
        Ok(id)
    }

    /// As [`finish`](Self::finish), after every chunk was read back from the file and authenticated.
    pub fn finish_verified(self) -> Result<Uuid> {
        let inner = self.inner();
        let finished = self.complete_verified()?;
        let id = finished.id();
        commit(&inner, vec![finished])?;
        Ok(id)
    }
}

fn finish(writer: ObjectWriter, verify: bool) -> Result<Uuid> {
    if verify {
        return writer.finish_verified();
    }
    writer.finish()
}
