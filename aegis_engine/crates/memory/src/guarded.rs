//! One key in a slot of the key pages.

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize;

use crate::pages::Pages;

/// One cache line a slot: keys here have 32 or 64 bytes.
const SLOT: usize = 64;
/// Slots mapped at once: 16 pages.
const GROW: usize = 1024;

/// A slot that belongs to nobody.
struct Free(NonNull<u8>);

// SAFETY: whoever takes it out of the list is its only owner, on whatever thread.
unsafe impl Send for Free {}

/// Free slots. Key pages are never given back: there are as many as keys were ever alive at once.
static FREE: Mutex<Vec<Free>> = Mutex::new(Vec::new());

/// `N` ≤ 64 zeroed bytes for a secret: outside core dumps, locked where possible, cleared on drop.
pub struct Guarded<const N: usize> {
    at: NonNull<[u8; N]>,
}

// SAFETY: a slot belongs to one `Guarded`, like a `Box<[u8; N]>`.
unsafe impl<const N: usize> Send for Guarded<N> {}
// SAFETY: as above; `&Guarded` only reads.
unsafe impl<const N: usize> Sync for Guarded<N> {}

impl<const N: usize> Guarded<N> {
    /// A zeroed slot.
    ///
    /// # Panics
    /// When the system has no memory, as an allocation would.
    pub fn zeroed() -> Self {
        const { assert!(N <= SLOT, "a slot holds 64 bytes") };
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            let from = Pages::for_keys(GROW * SLOT)
                .expect("memory for keys")
                .leak();
            // SAFETY: each slot lies within the mapping.
            free.extend((0..GROW).rev().map(|n| Free(unsafe { from.add(n * SLOT) })));
        }
        let at = free.pop().expect("slots were just added").0;
        Self { at: at.cast() }
    }

    /// The bytes.
    pub fn get(&self) -> &[u8; N] {
        // SAFETY: the slot is mapped for the life of the process, initialised (zero pages, cleared slots), and ours.
        unsafe { self.at.as_ref() }
    }

    /// The bytes, to fill them.
    pub fn get_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `get`, and `self` is borrowed exclusively.
        unsafe { self.at.as_mut() }
    }
}

impl<const N: usize> Drop for Guarded<N> {
    fn drop(&mut self) {
        self.get_mut().zeroize();
        FREE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Free(self.at.cast()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_start_at_zero() {
        let mut all: Vec<Guarded<64>> = (0..3000).map(|_| Guarded::zeroed()).collect();
        for (n, slot) in all.iter_mut().enumerate() {
            assert_eq!(*slot.get(), [0; 64]);
            *slot.get_mut() = [u8::try_from(n % 251).unwrap(); 64];
        }
        for (n, slot) in all.iter().enumerate() {
            assert_eq!(*slot.get(), [u8::try_from(n % 251).unwrap(); 64]);
        }
    }

    #[test]
    fn a_freed_slot_is_clear_when_it_is_given_out_again() {
        for _ in 0..if cfg!(miri) { 100 } else { 10_000 } {
            let mut slot = Guarded::<32>::zeroed();
            assert_eq!(*slot.get(), [0; 32]);
            slot.get_mut().fill(0xAA);
        }
    }
}
