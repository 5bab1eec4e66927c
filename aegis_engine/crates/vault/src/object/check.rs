//! Authenticating one sealed file: header and every chunk, without a permit and without giving out plaintext.

use uuid::Uuid;

use crate::error::Result;
use crate::format::header::Header;
use crate::object::bulk::{self, Progress};
use crate::object::file::ObjectFile;
use crate::object::keys::Verifier;
use crate::system::files::Place;
use crate::vault::Inner;

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

/// Every chunk of it.
pub(crate) fn check(
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
