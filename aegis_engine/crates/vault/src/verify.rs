//! Authenticates stored objects: header and every chunk, without a permit and without giving out plaintext.

use uuid::Uuid;

use crate::bulk::{self, Progress};
use crate::error::Result;
use crate::files::Place;
use crate::header::Header;
use crate::keys::Verifier;
use crate::object::ObjectFile;
use crate::vault::{Inner, Vault};

/// An object that is exactly what was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Its id.
    pub id: Uuid,
    /// Plaintext bytes authenticated.
    pub bytes: u64,
    /// Chunks authenticated.
    pub chunks: u64,
}

/// Gets each object's id with its result.
pub type VerifyProgress<'a> = &'a mut dyn FnMut(Uuid, &Result<VerifyReport>);

impl Vault {
    /// Authenticates the header and every chunk of one object; the error names the object and the first chunk that is
    /// damaged.
    pub fn verify(&self, object: Uuid) -> Result<VerifyReport> {
        self.verify_with(object, None, None)
    }

    /// As [`verify`](Self::verify), on that many threads, telling the bytes done so far.
    pub fn verify_with(
        &self,
        object: Uuid,
        threads: Option<usize>,
        progress: Option<&mut (dyn FnMut(u64) -> bool + Send)>,
    ) -> Result<VerifyReport> {
        let (file, verifier) = self.inner.verifiable(object)?;
        file.check_size()?;
        file.will_be_read();
        check(&file, &verifier, threads, progress)?;
        Ok(VerifyReport {
            id: object,
            bytes: file.header.length,
            chunks: file.header.chunks,
        })
    }

    /// Every live object, governance rows included. `progress` gets each id with its result.
    pub fn verify_all(
        &self,
        mut progress: Option<VerifyProgress<'_>>,
    ) -> Result<Vec<(Uuid, Result<VerifyReport>)>> {
        let ids: Vec<Uuid> = self
            .inner
            .current()?
            .body
            .records()
            .map(|record| record.object)
            .collect();
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let result = self.verify(id);
            if let Some(report) = progress.as_mut() {
                report(id, &result);
            }
            all.push((id, result));
        }
        Ok(all)
    }
}

impl Inner {
    /// The open file of an object, and what authenticates its chunks.
    pub fn verifiable(&self, object: Uuid) -> Result<(ObjectFile, Verifier)> {
        self.looking(|state| {
            let record = state.body.live(object)?;
            let file = ObjectFile::open(self, record)?;
            let verifier = file.locked(self, &state.body, record).verifier()?;
            Ok((file, verifier))
        })
    }
}

fn check(
    file: &ObjectFile,
    verifier: &Verifier,
    threads: Option<usize>,
    progress: Option<Progress<'_>>,
) -> Result<()> {
    let header = &file.header;
    bulk::check_all(
        header.widest(),
        header.chunks,
        threads,
        progress,
        |index, sealed, plain| {
            let len = header.chunk_len(index);
            let sealed = file.sealed(index, sealed)?;
            if verifier.check(index, file.is_last(index), sealed, len, plain) {
                Ok(len)
            } else {
                Err(file.chunk_failed(index))
            }
        },
    )
}

/// Authenticates a file that was just written, before its record exists.
pub(crate) fn read_back(path: &Place, header: &Header, verifier: &Verifier) -> Result<()> {
    let file = ObjectFile::of_writer(path, header)?;
    file.check_size()?;
    // From the disk, not from the cache: as far as the system follows advice.
    file.drop_cache();
    check(&file, verifier, None, None)
}
