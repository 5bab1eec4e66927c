//! The folder itself, opened once.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

struct Root {
    fd: OwnedFd,
    path: PathBuf,
    /// Owners that are trusted below: the root's, the caller, the system.
    owners: [u32; 3],
}

/// An open folder. Cloning is cheap. It stays the same folder when it is moved, and when the process changes its own.
#[derive(Clone)]
pub struct Folder {
    root: Arc<Root>,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Folder").field(&self.root.path).finish()
    }
}

impl Folder {
    /// Opens `path`, which is the caller's word: links on the way to it are followed, and it is made absolute.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty())?;
        let about = rustix::fs::fstat(&fd)?;
        let owners = [about.st_uid, rustix::process::geteuid().as_raw(), 0];
        Ok(Self {
            root: Arc::new(Root { fd, path, owners }),
        })
    }

    /// As [`open`](Self::open), where there may be nothing yet: then it is made, open to nobody else.
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let path = std::path::absolute(path)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Self::open(&path)
    }

    /// Its absolute path at the time it was opened; for messages, and for who opens it anew.
    pub fn path(&self) -> &Path {
        &self.root.path
    }

    /// Lets nobody but the owner in. False when that is not ours to do.
    pub fn tighten(&self) -> io::Result<bool> {
        let about = rustix::fs::fstat(&self.root.fd)?;
        let others = about.st_mode & 0o077;
        if others == 0 {
            return Ok(true);
        }
        match rustix::fs::fchmod(&self.root.fd, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::PERM | rustix::io::Errno::ROFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether both are one folder, by whatever paths.
    pub fn same(&self, other: &Self) -> io::Result<bool> {
        let (a, b) = (
            rustix::fs::fstat(&self.root.fd)?,
            rustix::fs::fstat(&other.root.fd)?,
        );
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.root.fd.as_fd()
    }

    pub(crate) fn trusts(&self, owner: u32) -> bool {
        self.root.owners.contains(&owner)
    }
}
