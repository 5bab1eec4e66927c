//! An object file opened for reading: header parsed, sizes checked, chunks read at their place.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use rustix::fs::Advice;

use crate::error::{Result, VaultError};
use crate::format::header::{HEADER, Header, TAG};
use crate::format::keystore::{Body, KeyRecord};
use crate::object::keys::SealedKeys;
use crate::system::files::Place;
use crate::vault::Inner;

/// Immutable after its rename, so no lock is held while it is read.
pub(crate) struct ObjectFile {
    file: File,
    pub header: Header,
    raw: Box<[u8; HEADER]>,
}

impl ObjectFile {
    /// Opens the file of `record` and checks all of the header that needs no key.
    pub fn open(inner: &Inner, record: &KeyRecord) -> Result<Self> {
        let object = record.object;
        let path = inner.paths.object(object);
        let file = path.open().map_err(|error| match error.kind() {
            ErrorKind::NotFound => VaultError::ObjectMissing { object },
            _ => VaultError::io("open", &path)(error),
        })?;
        let mut raw = Box::new([0; HEADER]);
        read_at(&file, &mut raw[..], 0).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                let found = file.metadata().map_or(0, |about| about.len());
                VaultError::Truncated {
                    object,
                    expected: HEADER as u64,
                    found,
                }
            }
            _ => VaultError::io("read", &path)(error),
        })?;
        let header = Header::decode(&raw, object)?;
        let bad = |reason| Err(VaultError::HeaderTampered { object, reason });
        if header.vault != inner.id {
            return bad("vault id");
        }
        if header.key_record != record.key_record {
            return bad("key record id");
        }
        if header.length != record.length {
            return bad("length");
        }
        Ok(Self { file, header, raw })
    }

    /// With the keystore record: what keys are unlocked from.
    pub fn locked<'a>(
        &'a self,
        inner: &Inner,
        body: &'a Body,
        record: &'a KeyRecord,
    ) -> SealedKeys<'a> {
        SealedKeys {
            body,
            vault: inner.id,
            record,
            header: &self.header,
            raw: &self.raw,
        }
    }

    /// Exactly the size the authenticated header says; call it after the header's keys are unlocked.
    pub fn check_size(&self) -> Result<()> {
        let object = self.header.object;
        let expected = self.header.file_len();
        let found = self
            .file
            .metadata()
            .map_err(|source| self.io("stat", source))?
            .len();
        match found {
            _ if found < expected => Err(VaultError::Truncated {
                object,
                expected,
                found,
            }),
            _ if found > expected => Err(VaultError::TrailingData {
                object,
                extra: found - expected,
            }),
            _ => Ok(()),
        }
    }

    fn io(&self, op: &'static str, source: std::io::Error) -> VaultError {
        VaultError::Io {
            op,
            path: format!("{}.enc", self.header.object),
            source,
        }
    }

    /// The file of an object that has no record yet.
    pub fn of_writer(path: &Place, header: &Header) -> Result<Self> {
        let file = path.open().map_err(VaultError::io("open", path))?;
        Ok(Self {
            file,
            header: header.clone(),
            raw: Box::new([0; HEADER]),
        })
    }

    /// Only advice: a system that does not take it reads as well.
    pub fn will_be_read(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Sequential);
    }

    /// Advises the system to forget its copy of the file.
    pub fn drop_cache(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    /// Whether `index` is the last chunk.
    pub fn is_last(&self, index: u64) -> bool {
        index + 1 == self.header.chunks
    }

    /// Ciphertext and tag of chunk `index`, read into memory of at least a chunk and its tag.
    pub fn sealed<'s>(&self, index: u64, scratch: &'s mut [u8]) -> Result<&'s [u8]> {
        let sealed = &mut scratch[..self.header.chunk_len(index) + TAG];
        read_at(&self.file, sealed, self.header.chunk_at(index))
            .map_err(|source| self.read_failed(source))?;
        Ok(sealed)
    }

    fn read_failed(&self, source: std::io::Error) -> VaultError {
        match source.kind() {
            // Cut off after it was opened.
            ErrorKind::UnexpectedEof => VaultError::Truncated {
                object: self.header.object,
                expected: self.header.file_len(),
                found: self.file.metadata().map_or(0, |about| about.len()),
            },
            _ => self.io("read", source),
        }
    }

    /// The error of a chunk that does not open.
    pub fn chunk_failed(&self, index: u64) -> VaultError {
        VaultError::ChunkAuthFailed {
            object: self.header.object,
            index,
        }
    }
}

fn read_at(file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    file.read_exact_at(out, at)
}
