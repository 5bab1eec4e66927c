//! An allocator that ends the process at an allocation that no input can justify. For fuzz targets and their short runs, which
//! include it by path and say in `crate::largest` what can be justified.

use std::alloc::{GlobalAlloc, Layout, System};

struct Bounded;

// SAFETY: everything is passed on to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        bound(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        bound(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn bound(size: usize) {
    if size > crate::largest() {
        std::process::abort();
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;
