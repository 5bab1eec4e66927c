//! A sealed object as the decoders of tables read it: any range, chunk by chunk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_memory::Pages;
use aegis_tables::{Source, SourceError};
use zeroize::Zeroize;

use crate::error::{Result, VaultError};
use crate::format::chunk::GcmKey;
use crate::format::header::{Part, TAG};
use crate::object::cache::ChunkCache;
use crate::object::reader::{OpenObject, Opened};

/// The first and the last bytes, by which a format is known.
pub(crate) fn ends(
    source: &(impl Source + ?Sized),
) -> std::result::Result<([u8; 4], [u8; 4]), SourceError> {
    let (mut head, mut tail) = ([0; 4], [0; 4]);
    if let Some(last) = source.len().checked_sub(4) {
        source.read_at(0, &mut head)?;
        source.read_at(last, &mut tail)?;
    }
    Ok((head, tail))
}

/// An object as the decoders read it. Not public: what it gives out is not cut down to a permit's rows.
pub(crate) struct ObjectSource<O = OpenObject> {
    unlocked: O,
    /// Chunks of which reads took a part.
    chunks: Mutex<ChunkCache>,
    /// Ciphertext buffers, one for each thread that reads.
    sealed: Mutex<Vec<Vec<u8>>>,
}

impl<O: Opened> ObjectSource<O> {
    pub fn new(unlocked: O) -> Self {
        Self {
            unlocked,
            chunks: Mutex::default(),
            sealed: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, ChunkCache> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, key: &GcmKey, offset: u64, out: &mut [u8], sealed: &mut [u8]) -> Result<()> {
        let header = &self.unlocked.file().header;
        header.each_chunk(offset, out, |Part { index, len, from }, now| {
            if now.len() == len {
                return self.unlocked.chunk(key, index, sealed, now);
            }
            let part = self.part(key, index, len, sealed)?;
            now.copy_from_slice(&part[from..from + now.len()]);
            Ok(())
        })
    }

    /// A chunk of which only a part is asked for.
    fn part(&self, key: &GcmKey, index: u64, len: usize, sealed: &mut [u8]) -> Result<Arc<Pages>> {
        if let Some(chunk) = self.kept().get(index) {
            return Ok(Arc::clone(chunk));
        }
        let mut chunk = self.room()?;
        self.unlocked.chunk(key, index, sealed, &mut chunk[..len])?;
        let chunk = Arc::new(chunk);
        self.kept().keep(index, Arc::clone(&chunk));
        Ok(chunk)
    }

    /// Memory for a chunk: that of the one used longest ago, once there are enough.
    fn room(&self) -> Result<Pages> {
        if let Some(used) = self.kept().room() {
            return Ok(used);
        }
        let header = &self.unlocked.file().header;
        // No larger than the object: small ones are many.
        let len = header
            .chunk()
            .min(usize::try_from(header.length).unwrap_or(usize::MAX));
        Pages::new(len).map_err(|source| VaultError::Io {
            op: "map memory for",
            path: format!("{}.enc", header.object),
            source,
        })
    }

    fn beyond(&self) -> VaultError {
        VaultError::BadRequest {
            what: format!(
                "object {}: a read beyond its end",
                self.unlocked.file().header.object
            ),
        }
    }

    /// Runs `read`; after an error no plaintext is kept.
    fn checked<T>(
        &self,
        read: impl FnOnce(&GcmKey) -> Result<T>,
    ) -> std::result::Result<T, SourceError> {
        self.unlocked.with_key(read).map_err(|error| {
            *self.kept() = ChunkCache::default();
            SourceError::from(error)
        })
    }
}

impl<O: Opened + Send + Sync + 'static> Source for ObjectSource<O> {
    fn len(&self) -> u64 {
        self.unlocked.file().header.length
    }

    fn grain(&self) -> u64 {
        self.unlocked.file().header.chunk() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), SourceError> {
        if offset
            .checked_add(out.len() as u64)
            .is_none_or(|end| end > self.len())
        {
            return Err(self.beyond().into());
        }
        let pool = || self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.unlocked.file().header.chunk() + TAG;
        let mut sealed = pool().pop().unwrap_or_else(|| vec![0; room]);
        let done = self.checked(|key| self.fill(key, offset, out, &mut sealed));
        pool().push(sealed);
        if done.is_err() {
            out.zeroize();
        }
        done
    }

    fn admit(&self) -> std::result::Result<(), SourceError> {
        self.checked(|_| Ok(()))
    }
}
