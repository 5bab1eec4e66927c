//! Every chunk of a file against its keys, without giving out plaintext.

use crate::error::Result;
use crate::format::header::Header;
use crate::object::bulk::{self, Progress};
use crate::object::file::ObjectFile;
use crate::object::keys::Verifier;
use crate::system::files::Place;

/// Authenticates every chunk; the error names the first that is damaged.
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
