//! Scrubbing: authenticating what lies on the disk before somebody needs it.

use aegis_audit::Event;
use aegis_memory::Pages;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::header::TAG;
use crate::secret;
use crate::vault::Vault;

/// A damaged object.
#[derive(Debug, Clone, Serialize)]
pub struct Damage {
    /// Which.
    pub object: Uuid,
    /// What is wrong with it.
    pub error: String,
    /// Its code.
    pub code: &'static str,
}

/// What a scrub looked at.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ScrubReport {
    /// Live objects, governance rows included; header and size of each were checked.
    pub objects: u64,
    /// Chunks authenticated.
    pub chunks: u64,
    /// Chunks there are.
    pub chunks_in_all: u64,
    /// Plaintext bytes authenticated.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
}

/// Gets objects done, objects in all, bytes done.
pub type ScrubProgress<'a> = &'a mut dyn FnMut(u64, u64, u64);

impl Vault {
    /// Authenticates every header and a random `sample` (0 to 1) of the chunks of every object, at least one each; goes on
    /// past damage. The result is on record in the audit log.
    pub fn scrub(
        &self,
        sample: f64,
        mut progress: Option<ScrubProgress<'_>>,
    ) -> Result<ScrubReport> {
        if !(sample > 0.0 && sample <= 1.0) {
            return Err(VaultError::BadRequest {
                what: format!("a sample of {sample} is not in (0, 1]; give 1 for everything"),
            });
        }
        let ids: Vec<Uuid> = {
            let state = self.inner.current()?;
            state.body.records().map(|record| record.object).collect()
        };
        let mut report = ScrubReport {
            objects: ids.len() as u64,
            ..ScrubReport::default()
        };
        for (done, id) in (1..).zip(&ids) {
            match self.scrub_one(*id, sample, &mut report) {
                // Shredded while we were on our way to it.
                Ok(()) | Err(VaultError::ObjectShredded { .. }) => {}
                Err(
                    error @ (VaultError::ForkedProcess
                    | VaultError::VaultDestroyed { .. }
                    | VaultError::Locked { .. }),
                ) => return Err(error),
                Err(error) => report.damaged.push(Damage {
                    object: *id,
                    error: error.to_string(),
                    code: error.code(),
                }),
            }
            if let Some(tell) = progress.as_mut() {
                tell(done, report.objects, report.bytes);
            }
        }
        let damaged: Vec<String> = report
            .damaged
            .iter()
            .map(|d| d.object.to_string())
            .collect();
        // On a file system that is only for reading there is no record of it; nothing was given out or changed.
        if !self.inner.read_only {
            let facts = json!({
                "objects": report.objects, "chunks": report.chunks, "chunks_in_all": report.chunks_in_all,
                "damaged": damaged,
            });
            self.inner.log.record(Event::Scrub, facts)?;
        }
        Ok(report)
    }

    fn scrub_one(&self, object: Uuid, sample: f64, report: &mut ScrubReport) -> Result<()> {
        if sample >= 1.0 {
            // All of it: the parallel path.
            let (file, _) = self.inner.verifiable(object)?;
            report.chunks_in_all += file.header.chunks;
            let whole = self.verify(object)?;
            report.chunks += whole.chunks;
            report.bytes += whole.bytes;
            return Ok(());
        }
        let (file, verifier) = self.inner.verifiable(object)?;
        report.chunks_in_all += file.header.chunks;
        file.check_size()?;
        let chunk = file.header.chunk();
        let mut sealed = Pages::new(chunk + TAG).map_err(VaultError::memory(chunk))?;
        let mut plain = Pages::new(chunk).map_err(VaultError::memory(chunk))?;
        let lucky = u64::from_le_bytes(secret::random()?) % file.header.chunks;
        for index in 0..file.header.chunks {
            if index != lucky && !chosen(sample)? {
                continue;
            }
            let len = file.header.chunk_len(index);
            let sealed = file.sealed(index, &mut sealed)?;
            if !verifier.check(index, file.is_last(index), sealed, len, &mut plain) {
                return Err(file.chunk_failed(index));
            }
            report.chunks += 1;
            report.bytes += len as u64;
        }
        Ok(())
    }
}

/// True with probability `sample`, to 32 bits.
fn chosen(sample: f64) -> Result<bool> {
    let drawn = u32::from_le_bytes(secret::random()?);
    Ok(f64::from(drawn) < sample * f64::from(u32::MAX))
}
