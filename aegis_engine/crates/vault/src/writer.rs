//! Writing one object: seal chunk by chunk into a temporary file, the header last, so that it carries the length.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use aegis_memory::Pages;
use uuid::Uuid;

use crate::bulk::{self, Progress, Target};
use crate::error::{Result, VaultError};
use crate::fail;
use crate::files;
use crate::header::{HEADER, Header};
use crate::keys::{WRAPPED, WriteKeys};
use crate::keystore::{Kind, Record};
use crate::layout::Layout;
use crate::lock;
use crate::meta::{Meta, Sealed};
use crate::secret::{self, Secret};
use crate::store;
use crate::vault::{Inner, now};
use crate::verify;

/// Everything random of one object; tests fix it.
pub(crate) struct Seed {
    pub object: Uuid,
    pub key_record: Uuid,
    pub salt: [u8; 32],
    pub dek: Secret<32>,
    pub created: u64,
}

impl Seed {
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

/// Files of an object that is not committed yet: removed on drop, unless they may already be in use.
pub(crate) struct Draft {
    inner: Arc<Inner>,
    object: Uuid,
    /// Locked while the writer lives, so that recovery leaves it alone.
    _intent: File,
    pub renamed: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            let layout = &self.inner.layout;
            // Best effort: what stays is ciphertext without a key, and recovery removes it.
            let _ = files::remove(&layout.object_tmp(self.object));
            let _ = files::remove(&layout.store_intent(self.object));
        }
    }
}

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
    created: u64,
    /// Mapped at the first append: the bulk paths have their own.
    buffer: Option<Pages>,
    filled: usize,
    index: u64,
    /// The bulk paths have written every chunk, the last one too.
    sealed: bool,
    failed: bool,
}

/// An object whose file is complete and durable, without a key record.
pub(crate) struct Finished {
    pub draft: Draft,
    pub dek: Secret<32>,
    pub subject: Option<String>,
    pub record: Record,
    pub chunks: u64,
}

impl Finished {
    pub fn id(&self) -> Uuid {
        self.record.object
    }

    /// After the keystore has its record: nothing is left to undo.
    pub fn settle(self, layout: &Layout) -> Result<()> {
        files::remove(&layout.store_intent(self.record.object)).map(drop)
    }
}

impl ObjectWriter {
    pub(crate) fn begin(
        inner: &Arc<Inner>,
        meta: Meta,
        chunk_log2: u8,
        kind: Kind,
        rows: Option<Uuid>,
        seed: Seed,
    ) -> Result<Self> {
        inner.same_process()?;
        if !(12..=24).contains(&chunk_log2) {
            let what = format!("chunks of 2^{chunk_log2} bytes are not supported; use 12 to 24");
            return Err(VaultError::BadRequest { what });
        }
        let Seed {
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
        header.meta = keys
            .header
            .seal_meta(Sealed::new(meta, created).encode()?)?;
        let layout = &inner.layout;
        // Recovery holds the vault's lock exclusively: between its creation and its own lock it cannot see the intent.
        let held = lock::shared(&layout.lock(), inner.lock_wait())?;
        let intent = files::write_synced(&layout.store_intent(object), b"")?;
        if !lock::take(&intent) {
            return Err(VaultError::Closed); // a fresh random id: nobody else can hold it
        }
        let draft = Draft {
            inner: Arc::clone(inner),
            object,
            _intent: intent,
            renamed: false,
        };
        drop(held);
        fail::point("writer.intent")?;
        let path = layout.object_tmp(object);
        if let Some(folder) = path.parent() {
            files::create_dir(folder)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(VaultError::io("create", &path))?;
        Ok(Self {
            draft,
            file,
            header,
            keys,
            dek,
            subject,
            kind,
            rows,
            created,
            buffer: None,
            filled: 0,
            index: 0,
            sealed: false,
            failed: false,
        })
    }

    /// Bytes appended so far.
    pub fn written(&self) -> u64 {
        self.index * self.header.chunk() as u64 + self.filled as u64
    }

    /// The id it will have.
    pub fn id(&self) -> Uuid {
        self.header.object
    }

    /// Space for at least one byte. One byte beyond the chunk tells that more follows.
    fn spare(&mut self) -> Result<&mut [u8]> {
        if self.failed {
            return Err(VaultError::Closed);
        }
        let chunk = self.header.chunk();
        if self.filled > chunk {
            let carry = self.buffer()?[chunk];
            self.seal(chunk, false)?;
            self.buffer()?[0] = carry;
            self.filled = 1;
        }
        let filled = self.filled;
        Ok(&mut self.buffer()?[filled..=chunk])
    }

    /// A chunk and its tag; a full chunk is sealed only when more follows, so that the last one is known.
    fn buffer(&mut self) -> Result<&mut Pages> {
        let fresh = match self.buffer.take() {
            Some(known) => known,
            None => bulk::scratch(self.header.chunk())?,
        };
        Ok(self.buffer.insert(fresh))
    }

    fn advance(&mut self, n: usize) {
        self.filled += n;
        self.header.length += n as u64;
    }

    fn seal(&mut self, len: usize, last: bool) -> Result<()> {
        // Stays set when anything below fails: a half-written object cannot be finished.
        self.failed = true;
        self.buffer()?;
        let Some(mut data) = self.buffer.take() else {
            return Err(VaultError::Closed);
        };
        let path = self.draft.inner.layout.object_tmp(self.header.object);
        self.target(&path).write(self.index, last, len, &mut data)?;
        self.buffer = Some(data);
        self.index += 1;
        self.failed = false;
        Ok(())
    }

    /// Copies all of `data`.
    pub fn append(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let spare = self.spare()?;
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
        let path = self.draft.inner.layout.object_tmp(self.header.object);
        self.index = bulk::seal_file(&self.target(&path), source, name, length, threads, progress)?;
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
        let path = self.draft.inner.layout.object_tmp(self.header.object);
        (self.header.length, self.index) =
            bulk::seal_stream(&self.target(&path), read, threads, progress)?;
        self.sealed = true;
        self.failed = false;
        Ok(())
    }

    /// Seals the last chunk, writes the header and makes the file durable under its temporary name.
    pub(crate) fn complete(mut self) -> Result<Finished> {
        if self.failed {
            return Err(VaultError::Closed);
        }
        if !self.sealed {
            if self.filled > self.header.chunk() {
                self.spare()?;
            }
            self.seal(self.filled, true)?;
        }
        self.header.chunks = self.index;
        fail::point("writer.sealed")?;
        let mut bytes = self.header.encode();
        let mac = self.keys.header.mac(&bytes);
        bytes.extend_from_slice(&mac);
        debug_assert_eq!(bytes.len(), HEADER);
        let path = self.draft.inner.layout.object_tmp(self.header.object);
        self.file
            .write_all_at(&bytes, 0)
            .map_err(VaultError::io("write", &path))?;
        self.file
            .sync_all()
            .map_err(VaultError::io("fsync", &path))?;
        fail::point("store.synced")?;
        let record = Record {
            object: self.header.object,
            kind: self.kind,
            key_record: self.header.key_record,
            subject: [0; 16], // at commit
            rows: self.rows,
            wrapped: [0; WRAPPED], // at commit
            header_mac: mac,
            length: self.header.length,
            created: self.created,
            name: None,
        };
        Ok(Finished {
            draft: self.draft,
            dek: self.dek,
            subject: self.subject,
            record,
            chunks: self.header.chunks,
        })
    }

    /// As [`finish`](Self::finish), after every chunk was read back from the file and authenticated.
    pub fn finish_verified(self) -> Result<Uuid> {
        let inner = Arc::clone(&self.draft.inner);
        let path = inner.layout.object_tmp(self.header.object);
        let header = self.header.clone();
        let verifier = WriteKeys::derive(&self.dek, &header)?.into_verifier();
        let finished = self.complete()?;
        verify::read_back(
            &path,
            &Header {
                length: finished.record.length,
                chunks: finished.chunks,
                ..header
            },
            &verifier,
        )?;
        let id = finished.id();
        store::commit(&inner, vec![finished])?;
        Ok(id)
    }

    /// Makes the object durable and visible, and returns its id.
    pub fn finish(self) -> Result<Uuid> {
        let inner = Arc::clone(&self.draft.inner);
        let finished = self.complete()?;
        let id = finished.id();
        store::commit(&inner, vec![finished])?;
        Ok(id)
    }
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
