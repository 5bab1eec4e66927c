//! One place below a folder, and all that may be done there.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::root::Folder;
use crate::stat::{Kind, Stat};
use crate::unfit::Unfit;
use crate::walk::{self, told};

const PRIVATE_FILE: Mode = Mode::from_raw_mode(0o600);
const PRIVATE_DIR: Mode = Mode::from_raw_mode(0o700);

/// A name in a folder; nothing is known of it before it is opened.
#[derive(Clone)]
pub struct Place {
    folder: Folder,
    /// Relative; "." for the folder itself.
    below: PathBuf,
    full: PathBuf,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.full).finish()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.full.display().fmt(f)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.full == other.full
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.full.cmp(&other.full)
    }
}

/// For messages, and for tests that act as somebody else; the crates that use this one do not open it.
impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.full
    }
}

/// One name of a listed folder.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// Where it is.
    pub place: Place,
    /// What it was when the folder was listed.
    pub kind: Kind,
}

impl Folder {
    /// A place below, by a relative path.
    pub fn place(&self, below: impl AsRef<Path>) -> Place {
        Place::new(self.clone(), below.as_ref())
    }

    /// The folder itself as a place.
    pub fn here(&self) -> Place {
        self.place("")
    }
}

impl Place {
    pub(crate) fn new(folder: Folder, below: &Path) -> Self {
        let (below, full) = if below.as_os_str().is_empty() {
            (PathBuf::from("."), folder.path().to_path_buf())
        } else {
            (below.to_path_buf(), folder.path().join(below))
        };
        Self {
            folder,
            below,
            full,
        }
    }

    /// The whole path, for messages.
    pub fn path(&self) -> &Path {
        &self.full
    }

    /// The path within the folder.
    pub fn below(&self) -> &Path {
        &self.below
    }

    /// Its folder's root.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// A name in this folder.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        if self.below == Path::new(".") {
            return self.folder.place(name);
        }
        self.folder.place(self.below.join(name))
    }

    /// The same name with `suffix` behind it.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let mut name = self.below.clone().into_os_string();
        name.push(suffix);
        self.folder.place(name)
    }

    /// The folder it is in.
    #[must_use]
    pub fn parent(&self) -> Self {
        self.folder
            .place(self.below.parent().unwrap_or(Path::new("")))
    }

    /// Its last name; empty for the root.
    pub fn file_name(&self) -> &OsStr {
        self.below.file_name().unwrap_or_default()
    }

    fn reach(&self, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        walk::open(self.folder.fd(), &self.below, flags, mode)
    }

    /// Runs `act` with the open folder of this name, and the name.
    fn within<T>(
        &self,
        act: impl FnOnce(std::os::fd::BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        use std::os::fd::AsFd;
        let names = walk::plain(&self.below)?;
        let Some(name) = self.below.file_name() else {
            return Err(Unfit("the folder itself").into());
        };
        if names.len() == 1 {
            return act(self.folder.fd(), name).map_err(told);
        }
        let parent = self
            .parent()
            .reach(OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        act(parent.as_fd(), name).map_err(told)
    }

    fn check(&self, fd: &OwnedFd, wanted: Kind) -> io::Result<Stat> {
        let about = Stat::of(&rustix::fs::fstat(fd)?);
        if about.kind != wanted {
            return Err(Unfit(match (about.kind, wanted) {
                (Kind::Other(what), _) => what,
                (Kind::Dir, _) => "a folder in the place of a file",
                _ => "a file in the place of a folder",
            })
            .into());
        }
        if !self.folder.trusts(about.owner) {
            return Err(Unfit("of another owner than the folder").into());
        }
        Ok(about)
    }

    /// Opens a regular file for reading.
    pub fn open(&self) -> io::Result<File> {
        let fd = self.reach(OFlags::RDONLY, Mode::empty())?;
        self.check(&fd, Kind::File)?;
        Ok(File::from(fd))
    }

    /// Opens a regular file that has this name only, for reading and writing in place.
    pub fn open_to_write(&self) -> io::Result<File> {
        let fd = self.reach(OFlags::RDWR, Mode::empty())?;
        if self.check(&fd, Kind::File)?.links > 1 {
            return Err(Unfit("a file with a second name (hard link)").into());
        }
        Ok(File::from(fd))
    }

    /// Makes a new private file; fails where any name is.
    pub fn create_new(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(File::from(self.reach(flags, PRIVATE_FILE)?))
    }

    /// Writes a private file whole, in the place of what is there, and makes it durable.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write;
        let tmp = self.with_suffix(".tmp");
        tmp.unlink()?;
        let mut file = tmp.create_new()?;
        file.write_all(bytes)?;
        file.sync_all()?;
        tmp.rename(self)?;
        self.sync_parent()
    }

    /// Opens a folder for listing or syncing.
    pub fn open_dir(&self) -> io::Result<File> {
        let fd = self.reach(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        self.check(&fd, Kind::Dir)?;
        Ok(File::from(fd))
    }

    /// A real folder of a trusted owner, or an error.
    pub fn check_dir(&self) -> io::Result<()> {
        self.open_dir().map(drop)
    }

    /// What is there, links not followed.
    pub fn stat(&self) -> io::Result<Stat> {
        let about = if self.below == Path::new(".") {
            rustix::fs::fstat(self.folder.fd()).map_err(told)?
        } else {
            self.within(|parent, name| rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW))?
        };
        Ok(Stat::of(&about))
    }

    /// Whether the name is taken, by whatever.
    pub fn exists(&self) -> bool {
        self.stat().is_ok()
    }

    /// Whether it is a real folder.
    pub fn is_dir(&self) -> bool {
        self.stat().is_ok_and(|about| about.kind == Kind::Dir)
    }

    /// Whether `file` is still what this name stands for.
    pub fn is_of(&self, file: &File) -> io::Result<bool> {
        let ours = Stat::of(&rustix::fs::fstat(file)?);
        match self.stat() {
            Ok(there) => Ok((there.device, there.inode) == (ours.device, ours.inode)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names in this folder, sorted.
    pub fn list(&self) -> io::Result<Vec<Entry>> {
        let folder = self.open_dir()?;
        let mut all = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let place = self.join(name);
            // Some file systems do not say it while listing.
            let kind = match entry.file_type() {
                FileType::Unknown => match place.stat() {
                    Ok(about) => about.kind,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
                known => Kind::of(known),
            };
            all.push(Entry {
                name: name.to_owned(),
                place,
                kind,
            });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Makes a private folder; false when a real one is there.
    pub fn mkdir(&self) -> io::Result<bool> {
        if self.below == Path::new(".") {
            return Ok(false);
        }
        match self.within(|parent, name| rustix::fs::mkdirat(parent, name, PRIVATE_DIR)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.check_dir().map(|()| false)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the name of a file or link, whatever it leads to; false when there is none. Folders are refused.
    pub fn unlink(&self) -> io::Result<bool> {
        self.remove(AtFlags::empty())
    }

    /// Removes an empty folder; false when there is none.
    pub fn rmdir(&self) -> io::Result<bool> {
        self.remove(AtFlags::REMOVEDIR)
    }

    fn remove(&self, flags: AtFlags) -> io::Result<bool> {
        match self.within(
            |parent, name| match rustix::fs::unlinkat(parent, name, flags) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error),
            },
        ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            done => done,
        }
    }

    /// Gives it another name in the same folder or another one of the same root; a file of that name is replaced.
    pub fn rename(&self, to: &Self) -> io::Result<()> {
        self.within(|from_parent, from| {
            let mut inner = None;
            let outer = to.within(|to_parent, name| {
                inner = Some(rustix::fs::renameat(from_parent, from, to_parent, name));
                Ok(())
            });
            match (outer, inner) {
                (Ok(()), Some(result)) => result,
                (Err(error), _) => Err(Errno::from_io_error(&error).unwrap_or(Errno::LOOP)),
                (Ok(()), None) => Err(Errno::INVAL),
            }
        })
    }

    /// Makes a new, renamed or removed name durable.
    pub fn sync_parent(&self) -> io::Result<()> {
        self.parent().open_dir()?.sync_all()
    }

    /// Sets the permissions of a regular file with one name, or of a folder.
    pub fn chmod(&self, mode: u32) -> io::Result<()> {
        let fd = self.reach(OFlags::RDONLY, Mode::empty())?;
        let about = Stat::of(&rustix::fs::fstat(&fd)?);
        self.check(
            &fd,
            if about.kind == Kind::Dir {
                Kind::Dir
            } else {
                Kind::File
            },
        )?;
        if about.kind == Kind::File && about.links > 1 {
            return Err(Unfit("a file with a second name (hard link)").into());
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(told)
    }
}

#[cfg(test)]
mod tests;
