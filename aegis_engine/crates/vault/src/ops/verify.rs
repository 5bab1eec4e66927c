//! Authenticates stored objects: header and every chunk, without a permit and without giving out plaintext.

use uuid::Uuid;

use crate::error::Result;
use crate::object::check::check;
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
