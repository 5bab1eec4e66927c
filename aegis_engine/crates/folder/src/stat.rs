//! What lies at a place, as far as can be told without reading it.

use rustix::fs::FileType;

/// What kind of thing has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A link, pipe, socket, device.
    Other(&'static str),
}

impl Kind {
    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Other("a symbolic link"),
            FileType::Fifo => Self::Other("a pipe"),
            FileType::Socket => Self::Other("a socket"),
            _ => Self::Other("a device"),
        }
    }
}

/// What the system knows of a name, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // as stat(2) names them
pub struct Stat {
    pub kind: Kind,
    pub device: u64,
    pub inode: u64,
    pub len: u64,
    pub links: u64,
    pub owner: u32,
    /// The nine bits of permission.
    pub mode: u32,
    pub modified: (i64, i64),
    pub changed: (i64, i64),
}

impl Stat {
    // Sizes are not negative, times fit; the types differ by machine.
    #[allow(
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast
    )]
    pub(crate) fn of(about: &rustix::fs::Stat) -> Self {
        Self {
            kind: Kind::of(FileType::from_raw_mode(about.st_mode)),
            device: about.st_dev as u64,
            inode: about.st_ino as u64,
            len: about.st_size as u64,
            links: about.st_nlink as u64,
            owner: about.st_uid,
            mode: about.st_mode & 0o777,
            modified: (about.st_mtime as i64, about.st_mtime_nsec as i64),
            changed: (about.st_ctime as i64, about.st_ctime_nsec as i64),
        }
    }
}
