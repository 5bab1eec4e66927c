//! Writing one object: seal chunk by chunk into a temporary file, the header last, so that it carries the length.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use aegis_memory::Pages;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::header::{HEADER, Header, TAG};
use crate::format::keystore::{KeyRecord, Kind, WRAPPED};
use crate::format::meta::{Meta, Sealed};
use crate::format::name;
use crate::object::bulk::{self, Progress, Target};
use crate::object::check;
use crate::object::draft::{Draft, Finished, Intent, ObjectRandomness};
use crate::object::keys::WriteKeys;
#[cfg(feature = "tables")]
use crate::object::written::Written;
use crate::secret::Secret;
use crate::system::failpoint;
use crate::system::files;
use crate::vault::Inner;

/// Where a writer's memory starts to grow from.
const LEAST_BUFFER: usize = 4096;

/// Writes one object; nothing is visible before [`finish`](Self::finish), and dropping it aborts.
pub struct ObjectWriter {
    draft: Draft,
    file: File,
    header: Header,
    keys: WriteKeys,
    dek: Secret<32>,
    subject: Option<String>,
    kind: Kind,
    rows: Option<Uuid>,
    /// Of a data object: into the keystore, too, so that it is known to be taken.
    name: Option<String>,
    created: u64,
    /// Mapped at the first append: the bulk paths have their own.
    buffer: Option<Pages>,
    filled: usize,
    index: u64,
    /// The bulk paths have written every chunk, the last one too.
    sealed: bool,
    failed: bool,
}

impl ObjectWriter {
    pub(crate) fn begin(
        inner: &Arc<Inner>,
        meta: Meta,
        chunk_log2: u8,
        kind: Kind,
        rows: Option<Uuid>,
        seed: ObjectRandomness,
    ) -> Result<Self> {
        inner.same_process()?;
        inner.writable()?;
        check_chunk(chunk_log2)?;
        let intent = Arc::new(Intent::one(inner, seed.object)?);
        Self::begin_under(inner, intent, meta, chunk_log2, kind, rows, seed)
    }

    /// As [`begin`](Self::begin), for an object that `intent` names.
    pub(crate) fn begin_under(
        inner: &Arc<Inner>,
        intent: Arc<Intent>,
        meta: Meta,
        chunk_log2: u8,
        kind: Kind,
        rows: Option<Uuid>,
        seed: ObjectRandomness,
    ) -> Result<Self> {
        check_chunk(chunk_log2)?;
        let ObjectRandomness {
            object,
            key_record,
            salt,
            dek,
            created,
        } = seed;
        let mut header = Header {
            chunk_log2,
            vault: inner.id,
            object,
            key_record,
            salt,
            commitment: [0; 32],
            length: 0,
            chunks: 1,
            meta: Vec::new(),
        };
        let keys = WriteKeys::derive(&dek, &header)?;
        header.commitment = keys.header.commitment;
        let subject = meta.subject.clone();
        let name = Some(meta.name.clone())
            .filter(|name| kind == Kind::Data && name::check_length(name).is_ok());
        header.meta = keys
            .header
            .seal_meta(Sealed::new(meta, created).encode()?)?;
        let (draft, file) = open_draft(inner, object, intent)?;
        Ok(Self {
            draft,
            file,
            header,
            keys,
            dek,
            subject,
            kind,
            rows,
            name,
            created,
            buffer: None,
            filled: 0,
            index: 0,
            sealed: false,
            failed: false,
        })
    }

    /// The vault it writes to.
    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.draft.inner)
    }

    /// Bytes appended so far.
    pub fn written(&self) -> u64 {
        self.index * self.header.chunk() as u64 + self.filled as u64
    }

    /// The id it will have.
    pub fn id(&self) -> Uuid {
        self.header.object
    }

    /// Space for at least one byte, for `wanted` where the chunk has it. One byte beyond the chunk tells that more follows.
    fn spare(&mut self, wanted: usize) -> Result<&mut [u8]> {
        if self.failed {
            return Err(VaultError::Closed);
        }
        let chunk = self.header.chunk();
        if self.filled > chunk {
            let carry = self.buffer(chunk)?[chunk];
            self.seal(chunk, false)?;
            self.buffer(chunk)?[0] = carry;
            self.filled = 1;
        }
        let filled = self.filled;
        let buffer = self.buffer(filled.saturating_add(wanted))?;
        let end = buffer.len().min(chunk + 1);
        Ok(&mut buffer[filled..end])
    }

    /// `room` bytes and a tag, at most a chunk and a tag; a full chunk is sealed only when more follows, so that the last
    /// one is known. Small objects get small memory: to clear a whole chunk costs more than to seal a few bytes.
    fn buffer(&mut self, room: usize) -> Result<&mut Pages> {
        let known = self.buffer.take();
        let room = room.min(self.header.chunk());
        let buffer = match known {
            Some(known) if known.len() >= room + TAG => known,
            known => {
                let size = room.next_power_of_two().max(LEAST_BUFFER);
                let mut grown = bulk::scratch(size.min(self.header.chunk()))?;
                if let Some(known) = known {
                    grown[..self.filled].copy_from_slice(&known[..self.filled]);
                }
                grown
            }
        };
        Ok(self.buffer.insert(buffer))
    }

    fn advance(&mut self, n: usize) {
        self.filled += n;
        self.header.length += n as u64;
    }

    fn seal(&mut self, len: usize, last: bool) -> Result<()> {
        // Stays set when anything below fails: a half-written object cannot be finished.
        self.failed = true;
        self.buffer(len)?;
        let Some(mut data) = self.buffer.take() else {
            return Err(VaultError::Closed);
        };
        let path = self.draft.inner.paths.object_tmp(self.header.object);
        self.target(path.as_ref())
            .write(self.index, last, len, &mut data)?;
        self.buffer = Some(data);
        self.index += 1;
        self.failed = false;
        Ok(())
    }

    /// Copies all of `data`.
    pub fn append(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let spare = self.spare(data.len())?;
            let n = spare.len().min(data.len());
            spare[..n].copy_from_slice(&data[..n]);
            self.advance(n);
            data = &data[n..];
        }
        Ok(())
    }

    /// Where the chunks go; for the bulk paths, which write nothing through the buffer.
    fn target<'t>(&'t self, path: &'t Path) -> Target<'t> {
        Target {
            file: &self.file,
            path,
            key: &self.keys.content,
            chunk: self.header.chunk(),
        }
    }

    /// Stores the whole of a regular file on several threads. Nothing was appended before.
    pub(crate) fn fill_from_file(
        &mut self,
        source: &File,
        name: &Path,
        length: u64,
        threads: Option<usize>,
        progress: Option<Progress<'_>>,
    ) -> Result<()> {
        self.failed = true;
        let path = self.draft.inner.paths.object_tmp(self.header.object);
        self.index = bulk::seal_file(
            &self.target(path.as_ref()),
            source,
            name,
            length,
            threads,
            progress,
        )?;
        self.header.length = length;
        self.sealed = true;
        self.failed = false;
        Ok(())
    }

    /// Stores a stream to its end: this thread reads, others seal. Nothing was appended before.
    pub(crate) fn fill_from_stream(
        &mut self,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
        threads: Option<usize>,
        progress: Option<Progress<'_>>,
    ) -> Result<()> {
        self.failed = true;
        let path = self.draft.inner.paths.object_tmp(self.header.object);
        (self.header.length, self.index) =
            bulk::seal_stream(&self.target(path.as_ref()), read, threads, progress)?;
        self.sealed = true;
        self.failed = false;
        Ok(())
    }

    /// Stores the first `length` bytes of `data`, which has room for a tag behind them: one chunk. Nothing was appended before.
    pub(crate) fn fill_small(&mut self, data: &mut Pages, length: usize) -> Result<()> {
        self.failed = true;
        let path = self.draft.inner.paths.object_tmp(self.header.object);
        self.target(path.as_ref()).write(0, true, length, data)?;
        (self.header.length, self.index) = (length as u64, 1);
        self.sealed = true;
        self.failed = false;
        Ok(())
    }

    /// Seals the last chunk, writes the header and makes the file durable under its temporary name.
    pub(crate) fn complete(self) -> Result<Finished> {
        let mut finished = self.complete_unsynced()?;
        finished.sync()?;
        Ok(finished)
    }

    /// As [`complete`](Self::complete), but [`Finished::sync`] still has to make it durable.
    pub(crate) fn complete_unsynced(mut self) -> Result<Finished> {
        if self.failed {
            return Err(VaultError::Closed);
        }
        if !self.sealed {
            if self.filled > self.header.chunk() {
                self.spare(1)?;
            }
            self.seal(self.filled, true)?;
        }
        self.header.chunks = self.index;
        failpoint::point("writer.sealed")?;
        let mut bytes = self.header.encode();
        let mac = self.keys.header.mac(&bytes);
        bytes.extend_from_slice(&mac);
        debug_assert_eq!(bytes.len(), HEADER);
        let path = self.draft.inner.paths.object_tmp(self.header.object);
        self.file
            .write_all_at(&bytes, 0)
            .map_err(VaultError::io("write", &path))?;
        let record = KeyRecord {
            object: self.header.object,
            kind: self.kind,
            key_record: self.header.key_record,
            subject: [0; 16], // at commit
            rows: self.rows,
            wrapped: [0; WRAPPED], // at commit
            header_mac: mac,
            length: self.header.length,
            created: self.created,
            name: self.name,
        };
        Ok(Finished {
            draft: self.draft,
            file: Some(self.file),
            dek: self.dek,
            subject: self.subject,
            record,
            chunks: self.header.chunks,
        })
    }

    /// As [`complete`](Self::complete), with what reads the object back before it is anybody's to read.
    #[cfg(feature = "tables")]
    pub(crate) fn complete_readable(self) -> Result<(Finished, Written)> {
        let path = self.draft.inner.paths.object_tmp(self.header.object);
        let header = self.header.clone();
        let content = WriteKeys::derive(&self.dek, &header)?.content;
        let finished = self.complete()?;
        let header = Header {
            length: finished.record.length,
            chunks: finished.chunks,
            ..header
        };
        let written = Written::open(&path, &header, content)?;
        Ok((finished, written))
    }

    /// As [`complete`](Self::complete), after every chunk was read back from the file and authenticated.
    pub(crate) fn complete_verified(self) -> Result<Finished> {
        let path = self.draft.inner.paths.object_tmp(self.header.object);
        let header = self.header.clone();
        let verifier = WriteKeys::derive(&self.dek, &header)?.into_verifier();
        let inner = Arc::clone(&self.draft.inner);
        let finished = self.complete()?;
        let read = check::read_back(
            &path,
            &Header {
                length: finished.record.length,
                chunks: finished.chunks,
                ..header
            },
            &verifier,
        );
        inner.unless_destroyed(read)?;
        Ok(finished)
    }
}

/// The temporary file of a new object, which goes when the draft is dropped.
fn open_draft(inner: &Arc<Inner>, object: Uuid, intent: Arc<Intent>) -> Result<(Draft, File)> {
    let draft = Draft {
        inner: Arc::clone(inner),
        object,
        intent,
        renamed: false,
    };
    let path = inner.paths.object_tmp(object);
    let file = inner.unless_destroyed(
        files::create_dir(&path.parent())
            .and_then(|()| path.create_new().map_err(VaultError::io("create", &path))),
    )?;
    Ok((draft, file))
}

fn check_chunk(chunk_log2: u8) -> Result<()> {
    if (12..=24).contains(&chunk_log2) {
        return Ok(());
    }
    let what = format!("chunks of 2^{chunk_log2} bytes are not supported; use 12 to 24");
    Err(VaultError::BadRequest { what })
}

impl Write for ObjectWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.append(data).map_err(io::Error::other)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is visible before `finish`
    }
}
