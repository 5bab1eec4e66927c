//! Durable file operations, in the order that survives a crash: temp, fsync, rename, fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Result, VaultError};
use crate::fail;
use crate::secret;

/// Reads a small file whole; larger than `limit` is refused before any allocation.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut file = File::open(path).map_err(VaultError::io("open", path))?;
    let len = file.metadata().map_err(VaultError::io("stat", path))?.len();
    if len > limit {
        let what = format!(
            "{} has {len} bytes, at most {limit} are expected; restore it",
            path.display()
        );
        return Err(VaultError::BadRequest { what });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    Read::by_ref(&mut file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(VaultError::io("read", path))?;
    Ok(bytes)
}

/// Creates (or truncates) a private file, writes and syncs it. A failed fsync is final: it is reported, not retried.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(VaultError::io("create", path))?;
    file.write_all(bytes)
        .map_err(VaultError::io("write", path))?;
    file.sync_all().map_err(VaultError::io("fsync", path))?;
    fail::point("file.written")?;
    Ok(file)
}

/// Replaces `path` as a whole: after a crash it has the old content or the new.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let tmp = Path::new(&name);
    write_synced(tmp, bytes)?;
    rename(tmp, path)?;
    fail::point("replace.renamed")
}

/// Rename and fsync of the folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    rename_unsynced(from, to)?;
    sync_parent(to)
}

/// A rename that counts only once its folder is synced.
pub(crate) fn rename_unsynced(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(VaultError::io("rename", to))?;
    fail::point("file.renamed")
}

/// Makes a rename or unlink in `path`'s folder durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    // The parent of a bare file name is empty.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Makes what was renamed or removed in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(VaultError::io("fsync folder", dir))
}

/// Creates a folder and makes it durable; one that is there is fine.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    if !path.is_dir() {
        match fs::create_dir(path) {
            Ok(()) => {
                fail::point("folder.created")?;
                sync_parent(path)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(VaultError::io("create folder", path)(error)),
        }
    }
    Ok(())
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => fail::point("file.removed").map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(VaultError::io("remove", path)(error)),
    }
}

/// Overwrites a small secret file in place with random bytes and syncs it. Best effort by nature: copies the
/// file system or the device keeps are out of reach, and the receipt says so.
pub(crate) fn overwrite(path: &Path) -> Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(VaultError::io("overwrite", path)(error)),
    };
    let len = file
        .metadata()
        .map_err(VaultError::io("stat", path))?
        .len()
        .min(1 << 20);
    let noise = secret::random::<64>()?;
    let mut left = usize::try_from(len).unwrap_or(0);
    while left > 0 {
        let n = left.min(noise.len());
        file.write_all(&noise[..n])
            .map_err(VaultError::io("overwrite", path))?;
        left -= n;
        fail::point("file.overwriting")?;
    }
    file.sync_all().map_err(VaultError::io("fsync", path))
}

/// Tells whether a file was replaced since; a rename changes all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    inode: u64,
    pub len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(path: &Path) -> Result<Self> {
        let about = fs::metadata(path).map_err(VaultError::io("stat", path))?;
        Ok(Self {
            inode: about.ino(),
            len: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}
