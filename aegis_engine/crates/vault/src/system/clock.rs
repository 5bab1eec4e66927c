//! What the machine gives that nobody can foretell: random bytes and the time. A test can fix both, to write frozen vectors.

use crate::error::Result;

#[cfg(not(test))]
pub(crate) use os::{fill, seconds};

#[cfg(test)]
pub(crate) use fixed::{fill, fix, seconds};

mod os {
    use std::time::{SystemTime, UNIX_EPOCH};

    use aws_lc_rs::rand;

    use super::Result;
    use crate::error::VaultError;

    /// From the operating system's random source.
    pub(crate) fn fill(out: &mut [u8]) -> Result<()> {
        rand::fill(out).map_err(VaultError::crypto("random"))
    }

    /// Seconds since 1970.
    pub(crate) fn seconds() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs())
    }
}

#[cfg(test)]
mod fixed {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::{Result, os};

    thread_local! {
        static FIXED: RefCell<Option<(VecDeque<u8>, u64)>> = const { RefCell::new(None) };
    }

    /// Until it is dropped, this thread draws from given bytes and its clock stands still.
    pub(crate) struct Fixed;

    /// Panics in `fill` when the bytes do not suffice.
    pub(crate) fn fix(bytes: &[u8], seconds: u64) -> Fixed {
        FIXED.set(Some((bytes.iter().copied().collect(), seconds)));
        Fixed
    }

    impl Drop for Fixed {
        fn drop(&mut self) {
            FIXED.set(None);
        }
    }

    pub(crate) fn fill(out: &mut [u8]) -> Result<()> {
        FIXED.with_borrow_mut(|fixed| match fixed {
            None => os::fill(out),
            Some((bytes, _)) => {
                assert!(bytes.len() >= out.len(), "more fixed bytes are needed");
                out.fill_with(|| bytes.pop_front().unwrap_or_default());
                Ok(())
            }
        })
    }

    pub(crate) fn seconds() -> u64 {
        FIXED.with_borrow(|fixed| fixed.as_ref().map_or_else(os::seconds, |(_, at)| *at))
    }
}
