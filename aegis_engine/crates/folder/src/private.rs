//! Files that only their owner reads: keys and identities. They lie where the caller says, outside any [`Folder`].
//!
//! [`Folder`]: crate::Folder

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Why a private file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The group or everybody has a right to it.
    #[error("it is open to others (mode {mode:o}); run chmod 600 on it")]
    OpenToOthers {
        /// Its permission bits.
        mode: u32,
    },
}

/// Writes a new file with mode 0600, durably; refuses a path that exists.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads at most `most` bytes of a file that only its owner may read.
pub fn read(path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    // Room for all of it at once: a vector that grows leaves its old bytes behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.saturating_add(1)));
    file.take(most as u64).read_to_end(&mut bytes)?;
    if mode & 0o077 != 0 {
        return Err(ReadError::OpenToOthers { mode });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_made_once_and_read_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"secret").unwrap();
        let again = create(&path, b"other").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path, 1024).unwrap().as_slice(), b"secret");
        assert_eq!(read(&path, 3).unwrap().as_slice(), b"sec");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let open = read(&path, 1024).unwrap_err();
        assert!(matches!(open, ReadError::OpenToOthers { mode: 0o640 }));
    }
}
