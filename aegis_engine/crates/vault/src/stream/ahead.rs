//! Reading ahead: a few threads decrypt the blocks that come next.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Result, VaultError};
use crate::stream::source::{Decoded, Records};

/// What the reading threads and the consumer share.
pub(crate) struct Shared {
    pub records: Arc<Records>,
    /// Blocks in the order of the epoch.
    pub order: Vec<u32>,
    pub state: Mutex<Queue>,
    pub changed: Condvar,
}

/// What is to be read, and what has been.
pub(crate) struct Queue {
    /// Next place in `order` to be decrypted.
    pub next: usize,
    /// Places below this may be decrypted now.
    pub limit: usize,
    pub ready: BTreeMap<usize, Result<Decoded>>,
    pub stop: bool,
}

impl Shared {
    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'q>(&self, queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        self.changed
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn work(&self) {
        loop {
            let place = {
                let mut queue = self.queue();
                while !queue.stop && queue.next >= queue.limit && queue.next < self.order.len() {
                    queue = self.wait(queue);
                }
                if queue.stop || queue.next >= self.order.len() {
                    return;
                }
                queue.next += 1;
                queue.next - 1
            };
            // A panic must reach the consumer, who waits for this block.
            let decoded = catch_unwind(AssertUnwindSafe(|| {
                self.records.read_block(self.order[place])
            }))
            .unwrap_or(Err(VaultError::Closed));
            let mut queue = self.queue();
            if queue.stop {
                return;
            }
            queue.ready.insert(place, decoded);
            drop(queue);
            self.changed.notify_all();
        }
    }
}
