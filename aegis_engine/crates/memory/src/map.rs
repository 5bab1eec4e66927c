//! Mappings for plaintext: zeroed, private, outside core dumps.

use std::io;
use std::ptr::NonNull;

#[cfg(not(miri))]
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// Mappings from here on start at a multiple of this and ask for huge pages: a fault for 2 MiB, not one for 4 KiB.
const HUGE: usize = 2 << 20;

/// Under Miri, which knows no advice, the same from the allocator: it checks what is done with the memory.
#[cfg(miri)]
pub fn map(len: usize) -> io::Result<NonNull<u8>> {
    use std::alloc::{GlobalAlloc, System};
    // SAFETY: the layout has a size.
    NonNull::new(unsafe { System.alloc_zeroed(layout(len)?) })
        .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// # Safety
/// As below.
#[cfg(miri)]
pub unsafe fn unmap(at: NonNull<u8>, len: usize) {
    use std::alloc::{GlobalAlloc, System};
    if let Ok(layout) = layout(len) {
        // SAFETY: made by `map` with the same layout, as the caller promises.
        unsafe { System.dealloc(at.as_ptr(), layout) };
    }
}

#[cfg(miri)]
fn layout(len: usize) -> io::Result<std::alloc::Layout> {
    let align = if len < HUGE { page_size() } else { HUGE };
    std::alloc::Layout::from_size_align(len, align).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// Bytes of a page.
pub fn page_size() -> usize {
    #[cfg(miri)]
    return 4096;
    #[cfg(not(miri))]
    rustix::param::page_size()
}

/// `len` bytes, a multiple of the page size.
#[cfg(not(miri))]
pub fn map(len: usize) -> io::Result<NonNull<u8>> {
    let at = if len < HUGE {
        anonymous(len)?
    } else {
        aligned(len)?
    };
    // SAFETY: the range was mapped above; the advice changes nothing that this process reads or writes.
    if let Err(error) = unsafe { mm::madvise(at.as_ptr().cast(), len, Advice::LinuxDontDump) } {
        // SAFETY: mapped above with this length, and nobody else knows it.
        unsafe { unmap(at, len) };
        return Err(error.into());
    }
    Ok(at)
}

/// # Safety
/// `at` comes from [`map`] with this `len`, and nobody uses it any more.
#[cfg(not(miri))]
pub unsafe fn unmap(at: NonNull<u8>, len: usize) {
    // SAFETY: as the caller promises. It fails only for ranges that are none.
    let _ = unsafe { mm::munmap(at.as_ptr().cast(), len) };
}

#[cfg(not(miri))]
fn anonymous(len: usize) -> io::Result<NonNull<u8>> {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases nothing.
    let at = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), len, access, flags) }?;
    NonNull::new(at.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(not(miri))]
fn aligned(len: usize) -> io::Result<NonNull<u8>> {
    let more = len.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
    let whole = anonymous(more)?;
    let head = whole.as_ptr().align_offset(HUGE);
    // SAFETY: `head` is less than HUGE, so `head + len` lies within the mapping.
    let at = unsafe { whole.add(head) };
    for (from, spare) in [(0, head), (head + len, HUGE - head)] {
        if spare > 0 {
            // SAFETY: both ends of the mapping lie outside of what is given out; all are multiples of the page size.
            unsafe { unmap(whole.add(from), spare) };
        }
    }
    // SAFETY: the range is ours. Refusing is allowed: the pages are small then.
    let _ = unsafe { mm::madvise(at.as_ptr().cast(), len, Advice::LinuxHugepage) };
    Ok(at)
}

/// Clears memory that is about to be given back.
///
/// # Safety
/// `len` bytes from `at` are mapped, writable and used by nobody else.
pub unsafe fn clear(at: NonNull<u8>, len: usize) {
    // SAFETY: as the caller promises.
    unsafe { std::ptr::write_bytes(at.as_ptr(), 0, len) };
    // The compiler must take the bytes for read, or it may leave the writing out.
    std::hint::black_box(at.as_ptr());
}
