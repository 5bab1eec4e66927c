//! Authenticates stored objects: header and every chunk, without a permit and without giving out plaintext.

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::Result;
use crate::object::ObjectFile;
use crate::vault::Vault;

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
    /// Authenticates the header and every chunk of one object; the error names the object and the chunk.
    pub fn verify(&self, object: Uuid) -> Result<VerifyReport> {
        let (file, verifier) = {
            let state = self.inner.current()?;
            let record = state.body.live(object)?;
            let file = ObjectFile::open(&self.inner, record)?;
            let verifier = file.locked(&self.inner, &state.body, record).verifier()?;
            (file, verifier)
        };
        file.check_size()?;
        let mut sealed = Vec::new();
        let mut scratch = Zeroizing::new(vec![0; file.header.chunk()]);
        for index in 0..file.header.chunks {
            let len = file.header.chunk_len(index);
            let sealed = file.sealed(index, &mut sealed)?;
            if !verifier.check(index, file.is_last(index), sealed, len, &mut scratch) {
                return Err(file.chunk_failed(index));
            }
        }
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
