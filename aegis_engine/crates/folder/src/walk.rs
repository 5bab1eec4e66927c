//! Reaching a name below a root without following anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::unfit::Unfit;

/// Set once the kernel said that it has no `openat2` (before 5.6, some sandboxes).
static OLD_KERNEL: AtomicBool = AtomicBool::new(false);

/// Opens `below` as seen from `root`.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    below: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let mut flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if !flags.contains(OFlags::PATH) {
        // The call refuses flags that mean nothing.
        flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
    }
    let names = plain(below)?;
    if !OLD_KERNEL.load(Ordering::Relaxed) {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, below, flags, mode, resolve) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOSYS) => OLD_KERNEL.store(true, Ordering::Relaxed),
            // A sandbox forbids the call, or a rename ran beside it: the long way tells.
            Err(Errno::PERM | Errno::AGAIN) => {}
            Err(error) => return Err(told(error)),
        }
    }
    step_by_step(root, &names, flags, mode)
}

/// Name by name: each folder on the way is opened as a folder that is no link.
pub(crate) fn step_by_step(
    root: BorrowedFd<'_>,
    names: &[&Path],
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let Some((last, folders)) = names.split_last() else {
        return rustix::fs::openat(root, ".", flags, mode).map_err(told);
    };
    let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut held: Option<OwnedFd> = None;
    for name in folders {
        let from = held.as_ref().map_or(root, AsFd::as_fd);
        held = Some(rustix::fs::openat(from, *name, on_the_way, Mode::empty()).map_err(told)?);
    }
    let from = held.as_ref().map_or(root, AsFd::as_fd);
    rustix::fs::openat(from, *last, flags, mode).map_err(told)
}

/// The names of a relative path; anything that could lead out is no place of a folder.
pub(crate) fn plain(below: &Path) -> io::Result<Vec<&Path>> {
    let names = below.components().map(|part| match part {
        Component::Normal(name) => Ok(Path::new(name)),
        _ => Err(io::Error::from(Unfit(
            "a path that leads out of the folder",
        ))),
    });
    // The folder itself is written as ".".
    if below == Path::new(".") {
        return Ok(Vec::new());
    }
    names.collect()
}

/// The system's words for "that is no plain file of this folder".
pub(crate) fn told(error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::XDEV => Unfit("a symbolic link").into(),
        Errno::NXIO | Errno::NODEV => Unfit("a pipe, socket or device").into(),
        Errno::NOTDIR => Unfit("no folder, or a link").into(),
        Errno::ISDIR => Unfit("a folder in the place of a file").into(),
        _ => error.into(),
    }
}
