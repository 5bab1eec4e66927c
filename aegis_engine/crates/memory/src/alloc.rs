//! A global allocator that treats every large block as plaintext, because the memory of Arrow arrays and of decompressed
//! pages comes from the global allocator and from nowhere else.
//!
//! Blocks of [`LARGE`] bytes and more are mapped outside core dumps and cleared when they are freed; up to [`KEPT`] bytes of
//! them are kept for the next one. Smaller ones are the system's business. No lock: a forked child can never find one taken.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::map::{clear, map, unmap};

/// The least size of a block that is kept out of core dumps.
pub const LARGE: usize = 64 << 10;
/// Freed bytes kept for later, at most.
const KEPT: usize = 512 << 20;
const SLOTS: usize = 512;
/// Low bits of an address that a page leaves free; they hold the class.
const LOW: usize = 4095;

/// Free blocks, with their class in the low bits, or null.
static FREE: [AtomicPtr<u8>; SLOTS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SLOTS];
static FREE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Declare it with `#[global_allocator]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// Sizes are rounded up to 4, 5, 6 or 7 quarters of a power of two. The class's number and its size; `None` when absurd.
fn class(size: usize) -> Option<(usize, usize)> {
    let log = size.checked_ilog2()?;
    let step = 1_usize << (log.checked_sub(2)?);
    let rounded = size.checked_next_multiple_of(step)?;
    // After rounding up to the next power of two the logarithm is another.
    let log = rounded.ilog2() as usize;
    let quarters = rounded >> (log - 2);
    (log < 48).then_some((log * 4 + (quarters & 3), rounded))
}

fn ours(layout: Layout) -> Option<(usize, usize)> {
    if layout.size() < LARGE || layout.align() > LOW {
        return None;
    }
    class(layout.size())
}

/// A free block of that class. It is all zeros.
fn take(class: usize, size: usize) -> Option<NonNull<u8>> {
    for slot in &FREE {
        let found = slot.load(Ordering::Relaxed);
        if !found.is_null()
            && found.addr() & LOW == class
            // Whoever empties the slot owns the block. The exchanged pointer counts, not the one that was looked at: the same
            // address may be another block by now.
            && let Ok(owned) = slot.compare_exchange(found, std::ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed)
        {
            FREE_BYTES.fetch_sub(size, Ordering::Relaxed);
            return NonNull::new(owned.map_addr(|at| at & !LOW));
        }
    }
    None
}

/// Keeps a cleared block; false when there is no room.
fn keep(at: NonNull<u8>, class: usize, size: usize) -> bool {
    if FREE_BYTES.fetch_add(size, Ordering::Relaxed) + size <= KEPT {
        let value = at.as_ptr().map_addr(|at| at | class);
        for slot in &FREE {
            if slot.load(Ordering::Relaxed).is_null()
                && slot
                    .compare_exchange(
                        std::ptr::null_mut(),
                        value,
                        Ordering::Release,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                return true;
            }
        }
    }
    FREE_BYTES.fetch_sub(size, Ordering::Relaxed);
    false
}

// SAFETY: blocks are exclusive (a slot gives its block to the one who empties it), as long as asked for, page-aligned, and
// freed by the same rule by which they were made, which looks at the layout only.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((class, size)) = ours(layout) else {
            // SAFETY: the caller's promise, handed on.
            return unsafe { System.alloc(layout) };
        };
        take(class, size)
            .or_else(|| map(size).ok())
            .map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if ours(layout).is_some() {
            // Fresh mappings and kept blocks are zeros.
            // SAFETY: the caller's promise, handed on.
            unsafe { self.alloc(layout) }
        } else {
            // SAFETY: as above.
            unsafe { System.alloc_zeroed(layout) }
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some((class, size)) = ours(layout) else {
            // SAFETY: the same layout went to the system in `alloc`.
            return unsafe { System.dealloc(at, layout) };
        };
        if let Some(at) = NonNull::new(at) {
            // SAFETY: `alloc` mapped the whole class, and the caller is done with it. Beyond the layout nobody wrote.
            unsafe { clear(at, layout.size()) };
            if !keep(at, class, size) {
                // SAFETY: mapped by `alloc` with this size.
                unsafe { unmap(at, size) };
            }
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is valid for this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(new, layout.align()) };
        match (ours(layout), ours(wanted)) {
            // SAFETY: the caller's promise, handed on.
            (None, None) => unsafe { System.realloc(at, layout, new) },
            // Growing within the class. Shrinking would leave bytes that `dealloc` does not clear.
            (Some(old), Some(same)) if old == same && new >= layout.size() => at,
            // SAFETY: both blocks are as long as what is copied, and different.
            _ => unsafe {
                let to = self.alloc(wanted);
                if !to.is_null() {
                    std::ptr::copy_nonoverlapping(at, to, layout.size().min(new));
                    self.dealloc(at, layout);
                }
                to
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_quarters_and_waste_less_than_a_fourth() {
        for size in [
            LARGE,
            LARGE + 1,
            100_000,
            262_144,
            262_145,
            (1 << 20) - 1,
            3 << 20,
            4_194_305,
        ] {
            let (number, rounded) = class(size).unwrap();
            assert!(
                rounded >= size && rounded <= size + size / 4 && rounded % 4096 == 0,
                "{size}"
            );
            assert_eq!(class(rounded), Some((number, rounded)));
            assert!(number <= LOW);
        }
        assert!(class(usize::MAX).is_none());
    }

    #[test]
    fn freed_blocks_come_back_as_zeros() {
        let layout = Layout::from_size_align(5 << 16, 64).unwrap();
        for _ in 0..if cfg!(miri) { 10 } else { 100 } {
            // SAFETY: written within the size, freed once with the same layout.
            unsafe {
                let at = Allocator.alloc_zeroed(layout);
                assert_eq!(at.align_offset(4096), 0);
                let bytes = std::slice::from_raw_parts_mut(at, layout.size());
                assert!(bytes == vec![0; bytes.len()]);
                bytes.fill(0xAB);
                Allocator.dealloc(at, layout);
            }
        }
    }

    #[test]
    fn growing_and_shrinking_keep_the_bytes_on_both_sides_of_the_limit() {
        let mut size = 1000;
        let mut layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: each layout is that of the last call.
        unsafe {
            let mut at = Allocator.alloc(layout);
            at.write_bytes(7, size);
            for next in [LARGE, LARGE + 10, 900_000, 900_001, 70_000, 500] {
                at = Allocator.realloc(at, layout, next);
                layout = Layout::from_size_align(next, 8).unwrap();
                let kept = std::slice::from_raw_parts(at, size.min(next));
                assert!(kept == vec![7; kept.len()], "{next}");
                at.write_bytes(7, next);
                size = next;
            }
            Allocator.dealloc(at, layout);
        }
    }

    #[test]
    fn threads_never_share_a_block() {
        let work = |mark: u8| {
            move || {
                for round in 0..if cfg!(miri) { 20 } else { 2000_usize } {
                    let layout = Layout::from_size_align(LARGE + (round % 7) * 4096, 8).unwrap();
                    // SAFETY: written within the size, freed once with the same layout.
                    unsafe {
                        let at = Allocator.alloc(layout);
                        let bytes = std::slice::from_raw_parts_mut(at, 512);
                        bytes.fill(mark);
                        std::thread::yield_now();
                        assert!(bytes.iter().all(|b| *b == mark));
                        Allocator.dealloc(at, layout);
                    }
                }
            }
        };
        let threads: Vec<_> = (1..5).map(|mark| std::thread::spawn(work(mark))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
