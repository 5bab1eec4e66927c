//! Durable file operations below the vault's folder, in the order that survives a crash: temp, fsync, rename, fsync of
//! the folder. They and `Place` are the only way to a file of the vault; see `aegis_folder`.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

pub(crate) use aegis_folder::{Entry, Folder, Kind, Place, Unfit};

use crate::error::{Result, VaultError};
use crate::system::clock;
use crate::system::failpoint;

/// Reads a small file whole; larger than `limit` is refused before any allocation.
pub(crate) fn read(path: &Place, limit: u64) -> Result<Vec<u8>> {
    let file = path.open().map_err(VaultError::io("open", path))?;
    read_open(file, path.as_ref(), limit)
}

/// As [`read`], from what is open.
pub(crate) fn read_open(mut file: File, path: &std::path::Path, limit: u64) -> Result<Vec<u8>> {
    let len = file.metadata().map_err(VaultError::io("stat", path))?.len();
    let refuse = |len: u64| VaultError::BadRequest {
        what: format!(
            "{} has {len} bytes, at most {limit} are expected; restore it",
            path.display()
        ),
    };
    if len > limit {
        return Err(refuse(len));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    // What says a small size and gives more (a device, a file of /proc) is not read for ever.
    Read::by_ref(&mut file)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(VaultError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(refuse(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Makes a new private file, writes and syncs it. What an interrupted write left under that name goes first: the caller
/// holds the lock, and the keystore has been opened. A failed fsync is final: it is reported, not retried.
pub(crate) fn write_synced(path: &Place, bytes: &[u8]) -> Result<File> {
    let mut file = match path.create_new() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            discard(path)?;
            path.create_new()
        }
        made => made,
    }
    .map_err(VaultError::io("create", path))?;
    file.write_all(bytes)
        .map_err(VaultError::io("write", path))?;
    file.sync_all().map_err(VaultError::io("fsync", path))?;
    failpoint::point("file.written")?;
    Ok(file)
}

/// Replaces `path` as a whole: after a crash it has the old content or the new.
pub(crate) fn replace(path: &Place, bytes: &[u8]) -> Result<()> {
    let tmp = path.with_suffix(".tmp");
    write_synced(&tmp, bytes)?;
    rename(&tmp, path)?;
    failpoint::point("replace.renamed")
}

/// Rename and fsync of the folder.
pub(crate) fn rename(from: &Place, to: &Place) -> Result<()> {
    rename_unsynced(from, to)?;
    sync_parent(to)
}

/// A rename that counts only once its folder is synced.
pub(crate) fn rename_unsynced(from: &Place, to: &Place) -> Result<()> {
    failpoint::point("file.renaming")?;
    from.rename(to).map_err(VaultError::io("rename", to))?;
    failpoint::point("file.renamed")
}

/// Makes a rename or unlink in `path`'s folder durable.
pub(crate) fn sync_parent(path: &Place) -> Result<()> {
    path.sync_parent()
        .map_err(VaultError::io("fsync folder of", path))
}

/// Creates a folder and makes it durable; one that is there is fine.
pub(crate) fn create_dir(path: &Place) -> Result<()> {
    if path
        .mkdir()
        .map_err(VaultError::io("create folder", path))?
    {
        failpoint::point("folder.created")?;
        sync_parent(path)?;
    }
    Ok(())
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Place) -> Result<bool> {
    let removed = path.unlink().map_err(VaultError::io("remove", path))?;
    if removed {
        failpoint::point("file.removed")?;
    }
    Ok(removed)
}

/// The names in a folder, sorted; none when there is no such folder.
pub(crate) fn list(folder: &Place) -> Result<Vec<Entry>> {
    match folder.list() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(VaultError::io("list", folder)),
    }
}

/// Whether the name is taken; what cannot be looked at is an error, not an absence.
pub(crate) fn exists(path: &Place) -> Result<bool> {
    match path.stat() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(VaultError::io("stat", path)(error)),
    }
}

/// Overwrites a small secret file in place with random bytes and syncs it. Best effort by nature: copies the
/// file system or the device keeps are out of reach, and the receipt says so. A file with a second name is refused: the
/// bytes may be somebody else's, and a secret that lives on under another name is not destroyed.
///
/// The caller holds the exclusive lock and has opened the keystore.
pub(crate) fn overwrite(path: &Place) -> Result<()> {
    let mut file = match path.open_to_write() {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(VaultError::io("overwrite", path)(error)),
    };
    let about = file.metadata().map_err(VaultError::io("stat", path))?;
    // Whoever renamed another file here in the meantime does not hold to the lock; what is open may be in use elsewhere.
    if !path.is_of(&file).map_err(VaultError::io("stat", path))? {
        let moved = Unfit("another file than a moment ago");
        return Err(VaultError::io("overwrite", path)(moved.into()));
    }
    let mut noise = [0; 64];
    clock::fill(&mut noise)?;
    let mut left = usize::try_from(about.len().min(1 << 20)).unwrap_or(0);
    while left > 0 {
        let n = left.min(noise.len());
        file.write_all(&noise[..n])
            .map_err(VaultError::io("overwrite", path))?;
        left -= n;
        failpoint::point("file.overwriting")?;
    }
    file.sync_all().map_err(VaultError::io("fsync", path))
}

/// Refuses a secret that has a second name, before anything is done that ends in overwriting it.
pub(crate) fn sole(path: &Place) -> Result<()> {
    match path.stat() {
        Ok(about) if about.kind == Kind::File && about.links > 1 => {
            let second = Unfit("a file with a second name (hard link)");
            Err(VaultError::io("overwrite", path)(second.into()))
        }
        _ => Ok(()),
    }
}

/// Gets rid of what an interrupted replacement left: overwritten where that touches nothing else, then removed. The name
/// of a link goes, what it leads to stays. The caller holds the exclusive lock and has opened the keystore.
pub(crate) fn discard(path: &Place) -> Result<bool> {
    match overwrite(path) {
        Ok(()) | Err(VaultError::Unfit { .. }) => {}
        Err(error) => return Err(error),
    }
    let removed = remove(path)?;
    if removed {
        sync_parent(path)?;
    }
    Ok(removed)
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
    pub fn of(path: &Place) -> Result<Self> {
        let about = path.stat().map_err(VaultError::io("stat", path))?;
        Ok(Self {
            inode: about.inode,
            len: about.len,
            modified: about.modified,
            changed: about.changed,
        })
    }
}
