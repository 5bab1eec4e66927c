//! Files that are not the vault's, by a path that is the caller's word.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Result, VaultError};
use crate::system::files;

/// Opens a file to store it.
pub(crate) fn source(path: &Path) -> Result<File> {
    File::open(path).map_err(VaultError::io("open", path))
}

/// The name of a file as an object's name.
///
/// # Errors
/// A name that is not UTF-8: two of them could become one.
pub(crate) fn name(path: &Path) -> Result<String> {
    let name = path.file_name().unwrap_or_default();
    let text = name.to_str().ok_or_else(|| VaultError::BadRequest {
        what: format!(
            "the name of {} is not UTF-8; give the object a name",
            path.display()
        ),
    })?;
    Ok(text.to_owned())
}

/// Whether the system makes up the file as it is read, and its size says nothing: /proc, /sys and their like.
pub(crate) fn made_up(file: &File) -> bool {
    // As linux/magic.h names them: proc, sysfs, debugfs, tracefs, securityfs, configfs, cgroup, cgroup2, selinuxfs,
    // efivarfs, bpf, pstore.
    const MADE_UP: [u64; 12] = [
        0x9fa0,
        0x6265_6572,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0x6265_6570,
        0x0027_e0eb,
        0x6367_7270,
        0xf97c_ff8c,
        0xde5e_81e4,
        0xcafe_4a11,
        0x6165_676c,
    ];
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // its type differs by machine
    rustix::fs::fstatfs(file).is_ok_and(|about| MADE_UP.contains(&(about.f_type as u64)))
}

/// Whether it is a regular file; a pipe is not opened for that.
pub(crate) fn is_file(path: &Path) -> Result<bool> {
    let about = path.metadata().map_err(VaultError::io("stat", path))?;
    Ok(about.is_file())
}

/// Reads a backup whole; larger than `limit` is refused.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    files::read_open(source(path)?, path, limit)
}

/// Makes a new private file; refuses what exists.
pub(crate) fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(VaultError::io("create", path))
}

/// Makes a new file's name durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    // The parent of a bare file name is empty.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(VaultError::io("fsync folder of", path))
}
