//! Decrypted chunks of one object that the next read may take from again.

use std::sync::Arc;

use aegis_memory::Pages;

use crate::error::{Result, VaultError};
use crate::object::bulk;

/// Chunks that are kept: a batch is read in row order, so a record that spans two chunks needs two.
const MOST: usize = 8;

/// Chunks, least recently used first. Their memory lies outside core dumps and is cleared when it is given back.
#[derive(Default)]
pub(crate) struct ChunkCache(Vec<Open>);

struct Open {
    index: u64,
    len: usize,
    plain: Arc<Pages>,
}

impl ChunkCache {
    /// Whether a chunk is here; it is then the newest.
    pub fn knows(&mut self, index: u64) -> bool {
        let Some(at) = self.0.iter().rposition(|open| open.index == index) else {
            return false;
        };
        // Most often the one used last: nothing moves then.
        if at + 1 != self.0.len() {
            let open = self.0.remove(at);
            self.0.push(open);
        }
        true
    }

    /// The chunk used last.
    pub fn newest(&self) -> Result<&[u8]> {
        let open = self.0.last().ok_or(VaultError::Closed)?;
        Ok(&open.plain[..open.len])
    }

    #[cfg(feature = "tables")]
    /// As [`newest`](Self::newest), to be read while others use the cache.
    pub fn shared(&self) -> Option<Arc<Pages>> {
        self.0.last().map(|open| Arc::clone(&open.plain))
    }

    /// Memory for a chunk of at most `widest` bytes: that of the one used longest ago, once there are enough.
    pub fn room(&mut self, widest: usize) -> Result<Pages> {
        if self.0.len() >= MOST
            && let Ok(pages) = Arc::try_unwrap(self.0.remove(0).plain)
        {
            return Ok(pages);
        }
        bulk::scratch(widest)
    }

    /// Keeps a chunk of `len` bytes.
    pub fn keep(&mut self, index: u64, len: usize, plain: Pages) {
        let plain = Arc::new(plain);
        self.0.push(Open { index, len, plain });
    }

    #[cfg(feature = "tables")]
    /// Nothing decrypted stays.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
