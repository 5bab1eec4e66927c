//! Where a table's bytes come from.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// A source's own error, handed through unchanged.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes at any place, read from several threads.
pub trait Source: Send + Sync + 'static {
    /// Bytes in all; does not change.
    fn len(&self) -> u64;

    /// Whether there is no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset`, all of it.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), SourceError>;

    /// Whether reading is still allowed; asked before each batch is given out, even when its bytes were read before.
    fn admit(&self) -> std::result::Result<(), SourceError> {
        Ok(())
    }

    /// Reads that start and end at multiples of this are cheapest.
    fn grain(&self) -> u64 {
        1 << 20
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), SourceError> {
        let at = usize::try_from(offset)?;
        let end = at
            .checked_add(out.len())
            .filter(|end| *end <= Vec::len(self));
        let end = end.ok_or("a read beyond the end")?;
        out.copy_from_slice(&self[at..end]);
        Ok(())
    }
}

/// A file that is not stored yet: to look at its schema.
impl Source for File {
    fn len(&self) -> u64 {
        self.metadata().map_or(0, |about| about.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), SourceError> {
        Ok(self.read_exact_at(out, offset)?)
    }
}
