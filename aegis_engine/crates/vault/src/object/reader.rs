//! Reading under a permit, which is redeemed again at every call.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aegis_memory::Pages;
use aegis_policy::{Authority, Permit, PermitError, Scope, Witness};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::chunk::{self, GcmKey};
use crate::format::header::Part;
use crate::format::keystore::{Body, KeyRecord};
use crate::object::bulk;
use crate::object::file::ObjectFile;
use crate::vault::consents;
use crate::vault::{Inner, Vault};

/// Scratches kept for threads that read one object at the same time.
const SCRATCHES: usize = 4;

impl Inner {
    /// The one gate of every read: the object lives, the permit is good now, and it comes from whom the vault obeys.
    pub fn admit<'p>(&self, body: &Body, permit: &'p Permit, object: Uuid) -> Result<Witness<'p>> {
        body.live(object)?;
        let refuse = |reason| Err(VaultError::PermitRequired { object, reason });
        match (body.bundle, permit.authority()) {
            (Some(_), Authority::Owner) => return refuse("the permit is the owner's"),
            (Some(pinned), Authority::Bundle(hash)) if pinned != hash => {
                return refuse("another bundle decided");
            }
            _ => {}
        }
        // The permit watches the length of the ledger's file, which an older file put back may have; the keystore's count of
        // its records does not go back.
        if let (Some(head), Authority::Bundle(_)) =
            (body.heads.get(consents::HEAD), permit.authority())
            && head.count > permit.ledger_epoch()
        {
            let permit = permit.id();
            return Err(PermitError::Revoked { permit }.into());
        }
        Ok(permit.redeem(self.id, object)?)
    }
}

/// A sealed file whose chunks can be opened now.
pub(crate) trait Opened {
    fn file(&self) -> &ObjectFile;

    /// Runs `read` with the content key, after whatever has to hold for it.
    fn with_key<T>(&self, read: impl FnOnce(&GcmKey) -> Result<T>) -> Result<T>;

    /// Opens chunk `index` into `plain`, which has exactly its length.
    fn chunk(&self, key: &GcmKey, index: u64, sealed: &mut [u8], plain: &mut [u8]) -> Result<()> {
        let file = self.file();
        let sealed = file.sealed(index, sealed)?;
        chunk::open(key, index, file.is_last(index), sealed, plain)
            .ok_or_else(|| file.chunk_failed(index))
    }
}

/// An object, its permit and its content key.
pub(crate) struct OpenObject {
    pub inner: Arc<Inner>,
    pub permit: Arc<Permit>,
    pub file: ObjectFile,
    /// Gone once the object is shredded.
    content: RwLock<Option<GcmKey>>,
}

impl OpenObject {
    pub fn open(inner: &Arc<Inner>, permit: &Arc<Permit>, object: Uuid) -> Result<Self> {
        let (file, content) = inner.looking(|state| {
            let witness = inner.admit(&state.body, permit, object)?;
            let record: &KeyRecord = state.body.live(object)?;
            let file = ObjectFile::open(inner, record)?;
            let content = file.locked(inner, &state.body, record).content(&witness)?;
            file.check_size()?;
            Ok((file, content))
        })?;
        let (inner, permit) = (Arc::clone(inner), Arc::clone(permit));
        Ok(Self {
            inner,
            permit,
            file,
            content: RwLock::new(Some(content)),
        })
    }
}

impl Opened for OpenObject {
    fn file(&self) -> &ObjectFile {
        &self.file
    }

    /// After checking the permit and the keystore again.
    fn with_key<T>(&self, read: impl FnOnce(&GcmKey) -> Result<T>) -> Result<T> {
        {
            let state = self.inner.current()?;
            let admitted = self
                .inner
                .admit(&state.body, &self.permit, self.file.header.object);
            if let Err(VaultError::ObjectShredded { .. } | VaultError::ObjectNotFound { .. }) =
                admitted
            {
                self.content
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
            }
            admitted?;
        }
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        read(content.as_ref().ok_or(VaultError::Closed)?)
    }
}

/// Buffers of one reading thread.
struct Scratch {
    sealed: Pages,
    /// Mapped when a chunk is read in part.
    plain: Option<Pages>,
    /// The chunk in `plain`.
    index: Option<u64>,
}

/// Reads a whole object at any place. `Send + Sync`; [`read_at`](Self::read_at) may be called from many threads.
pub struct ObjectReader {
    unlocked: OpenObject,
    scratches: Mutex<Vec<Scratch>>,
    position: u64,
}

impl Vault {
    /// Redeems a permit without reading: for whoever gives out in parts what was read in one piece.
    pub fn admit(&self, permit: &Permit) -> Result<()> {
        let state = self.inner.current()?;
        self.inner
            .admit(&state.body, permit, permit.object())
            .map(drop)
    }

    /// Opens an object under a permit for all of it.
    ///
    /// # Errors
    /// [`PermitError::Scope`] when the permit is for rows: use [`Vault::records`] then.
    pub fn reader(&self, permit: &Arc<Permit>, object: Uuid) -> Result<ObjectReader> {
        if !matches!(permit.scope(), Scope::Whole) {
            let what = "the object as a whole, only rows of it".to_owned();
            return Err(PermitError::Scope {
                permit: permit.id(),
                what,
            }
            .into());
        }
        let unlocked = OpenObject::open(&self.inner, permit, object)?;
        Ok(ObjectReader {
            unlocked,
            scratches: Mutex::default(),
            position: 0,
        })
    }
}

impl ObjectReader {
    /// The object's id.
    pub fn id(&self) -> Uuid {
        self.unlocked.file.header.object
    }

    /// Redeems the permit again; when it has ended, nothing decrypted stays behind.
    pub fn admit(&self) -> Result<()> {
        let admitted = self.unlocked.with_key(|_| Ok(()));
        if admitted.is_err() {
            self.forget();
        }
        admitted
    }

    fn forget(&self) {
        let mut pool = self
            .scratches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pool.clear();
    }

    /// Plaintext bytes.
    pub fn len(&self) -> u64 {
        self.unlocked.file.header.length
    }

    /// Plaintext bytes of a chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.unlocked.file.header.chunk()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset`; returns fewer bytes only at the end. No byte of an unauthenticated chunk is given
    /// out: on an error `out` is cleared.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let left = self.len().saturating_sub(offset);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..n];
        let mut scratch = self.scratch()?;
        let done = self
            .unlocked
            .with_key(|key| self.fill(key, offset, out, &mut scratch));
        if done.is_err() {
            zeroize::Zeroize::zeroize(out);
            self.forget();
            return done.map(|()| 0);
        }
        self.give_back(scratch);
        Ok(n)
    }

    /// As [`read_at`](Self::read_at) on several threads, for many chunks at once; the permit is redeemed once.
    pub fn read_into(&self, offset: u64, out: &mut [u8], threads: Option<usize>) -> Result<usize> {
        let size = self.unlocked.file.header.chunk();
        let left = self.len().saturating_sub(offset);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let threads = bulk::workers(threads, (n / size) as u64);
        if threads == 1 {
            return self.read_at(offset, out);
        }
        let out = &mut out[..n];
        // Up to the first boundary, whole chunks (and the end of the object), what is left of a chunk.
        let from = usize::try_from(offset % size as u64).unwrap_or(0);
        let head = if from == 0 { 0 } else { size - from };
        let tail = if n as u64 == left {
            0
        } else {
            (n - head) % size
        };
        let (ends, whole) = ([0..head, n - tail..n], head..n - tail);
        let mut scratches = Vec::with_capacity(threads);
        for _ in 0..threads {
            scratches.push(Mutex::new(self.scratch()?));
        }
        let done = self.unlocked.with_key(|key| {
            let mut first = scratches[0].lock().unwrap_or_else(PoisonError::into_inner);
            for end in ends {
                let at = offset + end.start as u64;
                self.fill(key, at, &mut out[end], &mut first)?;
            }
            drop(first);
            let index = (offset + whole.start as u64) / size as u64;
            bulk::open_all(
                size,
                index,
                &mut out[whole],
                threads,
                |index, worker, plain| {
                    let mut scratch = scratches[worker]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    self.unlocked.chunk(key, index, &mut scratch.sealed, plain)
                },
            )
        });
        if let Err(error) = done {
            zeroize::Zeroize::zeroize(out);
            self.forget();
            return Err(error);
        }
        for scratch in scratches {
            self.give_back(scratch.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(n)
    }

    /// Memory of an earlier call, or new.
    fn scratch(&self) -> Result<Scratch> {
        let known = self
            .scratches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match known {
            Some(scratch) => Ok(scratch),
            None => Ok(Scratch {
                sealed: bulk::scratch(self.unlocked.file.header.widest())?,
                plain: None,
                index: None,
            }),
        }
    }

    fn give_back(&self, scratch: Scratch) {
        let mut pool = self
            .scratches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if pool.len() < SCRATCHES {
            pool.push(scratch);
        }
    }

    fn fill(&self, key: &GcmKey, offset: u64, out: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let header = &self.unlocked.file.header;
        header.each_chunk(offset, out, |Part { index, len, from }, now| {
            if now.len() == len {
                // A whole chunk: in one pass to where it belongs.
                return self.unlocked.chunk(key, index, &mut scratch.sealed, now);
            }
            let known = scratch.index.take();
            let mut plain = match scratch.plain.take() {
                Some(plain) => plain,
                None => bulk::scratch(header.widest())?,
            };
            if known != Some(index) {
                self.unlocked
                    .chunk(key, index, &mut scratch.sealed, &mut plain[..len])?;
            }
            now.copy_from_slice(&plain[from..from + now.len()]);
            scratch.plain = Some(plain);
            scratch.index = Some(index);
            Ok(())
        })
    }
}

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.read_at(self.position, out).map_err(io::Error::other)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = place.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "seek before the start of the object",
            )
        })?;
        Ok(self.position)
    }
}
