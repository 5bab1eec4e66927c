//! The one door to a folder that may have come from somebody else: an archive, a share, a backup.
//!
//! The root is opened once ([`Folder::open`]); whatever lies below is reached from that descriptor by a [`Place`], and
//! - no symbolic link is followed and nothing above the root is reached (`openat2` with `RESOLVE_BENEATH`,
//!   `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`; without that call, name by name with `O_NOFOLLOW`);
//! - nothing hangs (`O_NONBLOCK`): a pipe or device in a file's place is refused after it was looked at;
//! - a file is a regular file, a folder a real folder, of the root's owner, the caller or the system;
//! - a file that is written in place has no second name: a hard link would carry the write out of the folder.
//!
//! What is refused for that is an [`Unfit`] inside the [`io::Error`].

mod place;
mod walk;

pub use place::{Entry, Kind, Place, Stat};

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

/// Something in the folder that is not what its name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is {0}: only plain files and folders of its own belong there")]
pub struct Unfit(pub &'static str);

impl Unfit {
    /// Whether `error` is one, and which.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> Self {
        Self::new(io::ErrorKind::InvalidData, unfit)
    }
}

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

    /// A place below, by a relative path.
    pub fn place(&self, below: impl AsRef<Path>) -> Place {
        Place::new(self.clone(), below.as_ref())
    }

    /// The folder itself as a place.
    pub fn here(&self) -> Place {
        self.place("")
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

    fn fd(&self) -> BorrowedFd<'_> {
        self.root.fd.as_fd()
    }

    fn trusts(&self, owner: u32) -> bool {
        self.root.owners.contains(&owner)
    }
}

/// A folder by path or by place: what a log lies in.
pub trait AsDir {
    /// Opened; with `create`, made when there is none.
    fn dir(&self, create: bool) -> io::Result<Place>;
    /// For messages.
    fn label(&self) -> &Path;
}

impl AsDir for Path {
    fn dir(&self, create: bool) -> io::Result<Place> {
        let opened = if create {
            Folder::open_or_create(self)
        } else {
            Folder::open(self)
        };
        opened.map(|folder| folder.here())
    }
    fn label(&self) -> &Path {
        self
    }
}

impl AsDir for PathBuf {
    fn dir(&self, create: bool) -> io::Result<Place> {
        self.as_path().dir(create)
    }
    fn label(&self) -> &Path {
        self
    }
}

impl AsDir for Place {
    fn dir(&self, create: bool) -> io::Result<Place> {
        if create && self.mkdir()? {
            self.sync_parent()?;
        }
        self.check_dir()?;
        Ok(self.clone())
    }
    fn label(&self) -> &Path {
        self.path()
    }
}
