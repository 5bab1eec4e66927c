//! Whole pages for plaintext and key slots.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

#[cfg(not(miri))]
use rustix::mm::{self, Advice};

use crate::map::{clear, map, page_size, unmap};

/// Zeroed private memory, page-aligned, kept out of core dumps, cleared on drop. `len` may be 0.
pub struct Pages {
    at: NonNull<u8>,
    len: usize,
    mapped: usize,
}

// SAFETY: `Pages` owns its mapping alone, like a `Box<[u8]>`; sharing it gives shared reads only.
unsafe impl Send for Pages {}
// SAFETY: as above; `&Pages` has no way to write.
unsafe impl Sync for Pages {}

impl Pages {
    /// `len` zeroed bytes.
    ///
    /// # Errors
    /// The system has no memory to map.
    pub fn new(len: usize) -> io::Result<Self> {
        let page = page_size();
        let mapped = len
            .max(1)
            .checked_next_multiple_of(page)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let at = map(mapped)?;
        Ok(Self { at, len, mapped })
    }

    /// For keys: locked into RAM as far as the limit goes, zeros in a forked child.
    pub(crate) fn for_keys(len: usize) -> io::Result<Self> {
        let pages = Self::new(len)?;
        #[cfg(not(miri))]
        {
            pages.advise(Advice::LinuxWipeOnFork)?;
            // SAFETY: the range is ours. Failing is allowed: the default limit is 8 MiB, `doctor` reports it.
            let _ = unsafe { mm::mlock(pages.at.as_ptr().cast(), pages.mapped) };
        }
        Ok(pages)
    }

    #[cfg(not(miri))]
    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: neither advice changes what this process reads or writes.
        unsafe { mm::madvise(self.at.as_ptr().cast(), self.mapped, advice) }?;
        Ok(())
    }

    /// Gives up the mapping for good: the memory is never freed. For the key slab.
    pub(crate) fn leak(self) -> NonNull<u8> {
        let at = self.at;
        std::mem::forget(self);
        at
    }
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `at` are mapped, initialised (zero pages) and owned by `self`.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody borrows it any more.
        unsafe {
            clear(self.at, self.len);
            unmap(self.at, self.mapped);
        }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(at: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut ours = false;
        for line in maps.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((from, to)) = range.split_once('-')
                && let (Ok(from), Ok(to)) = (
                    usize::from_str_radix(from, 16),
                    usize::from_str_radix(to, 16),
                )
            {
                ours = (from..to).contains(&at);
            }
            if ours && line.starts_with("VmFlags:") {
                return line.to_owned();
            }
        }
        String::new()
    }

    #[test]
    fn pages_are_zero_aligned_and_writable_to_the_last_byte() {
        for len in [0, 1, 4095, 4096, 4097, 1 << 20] {
            let mut pages = Pages::new(len).unwrap();
            assert_eq!(pages.len(), len);
            assert!(*pages == vec![0; len]);
            assert_eq!(pages.as_ptr() as usize % 4096, 0);
            pages.fill(7);
            assert!(*pages == vec![7; len]);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "there is no kernel to ask")]
    fn the_kernel_leaves_pages_out_of_core_dumps() {
        let pages = Pages::new(1 << 16).unwrap();
        let flags = flags(pages.as_ptr() as usize);
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "there is no kernel to ask")]
    fn key_pages_are_wiped_on_fork() {
        let pages = Pages::for_keys(64).unwrap();
        let flags = flags(pages.as_ptr() as usize);
        assert!(flags.split(' ').any(|flag| flag == "wf"), "{flags}");
    }

    #[test]
    fn an_absurd_length_is_an_error() {
        assert!(Pages::new(usize::MAX).is_err());
    }
}
