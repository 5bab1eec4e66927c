//! Decrypted chunks of one object, kept because the next read often wants the rest of them.

use std::sync::Arc;

use aegis_memory::Pages;

/// Chunks kept: a batch is read in row order, and what spans two chunks needs two.
const KEPT: usize = 8;

/// Least recently used first. What goes is cleared.
#[derive(Default)]
pub(crate) struct ChunkCache(Vec<(u64, Arc<Pages>)>);

impl ChunkCache {
    /// The chunk, if it is kept.
    pub fn get(&mut self, index: u64) -> Option<&Arc<Pages>> {
        let place = self.0.iter().rposition(|(known, _)| *known == index)?;
        // Most often the one used last: nothing moves then.
        if place + 1 != self.0.len() {
            let chunk = self.0.remove(place);
            self.0.push(chunk);
        }
        self.0.last().map(|(_, chunk)| chunk)
    }

    /// The memory of the chunk used longest ago, once there are enough and nobody reads it any more.
    pub fn room(&mut self) -> Option<Pages> {
        if self.0.len() < KEPT {
            return None;
        }
        Arc::try_unwrap(self.0.remove(0).1).ok()
    }

    /// Keeps a chunk that was decrypted.
    pub fn keep(&mut self, index: u64, chunk: Arc<Pages>) {
        self.0.push((index, chunk));
    }
}
