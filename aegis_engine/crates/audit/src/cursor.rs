//! A place in a log, in bytes and in the chain.

use crate::head::Head;

/// A place in a log from which reading goes on later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) offset: u64,
    /// Where the last record before it starts; 0 when there is none.
    pub(crate) last: u64,
    pub(crate) head: Head,
}

impl Cursor {
    /// The head of the log up to this place.
    pub fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn at(offset: u64, last: u64, head: Head) -> Self {
        Self { offset, last, head }
    }
}
