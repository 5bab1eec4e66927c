//! The vault's advisory lock: shared to load the keystore, exclusive to change it, with a bounded wait.
//!
//! Taking it changes nothing but that the file `lock` is there: nobody has shown a key yet. On a file system that cannot
//! be written to a shared lock is taken through a descriptor for reading, or none where there is no file to lock: then
//! nobody writes here either.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Result, VaultError};
use crate::system::files::Place;

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct VaultLock {
    file: Option<File>,
    exclusive: bool,
}

impl VaultLock {
    /// Writes who holds the exclusive lock into the file. Only after the keystore was opened, and only informative: a
    /// failure to write the name must not cost the lock.
    pub fn sign(&mut self) {
        use std::os::unix::fs::MetadataExt;
        let Some(file) = self.file.as_mut().filter(|_| self.exclusive) else {
            return;
        };
        // A second name may be a file of somebody else's.
        if file.metadata().map_or(0, |about| about.nlink()) == 1 {
            let named = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "process {}", std::process::id()));
            drop(named);
        }
    }
}

/// Waits at most `wait` for a shared lock.
pub(crate) fn shared(path: &Place, wait: Duration) -> Result<VaultLock> {
    acquire(path, wait, false)
}

/// Waits at most `wait` for the exclusive lock.
pub(crate) fn exclusive(path: &Place, wait: Duration) -> Result<VaultLock> {
    acquire(path, wait, true)
}

/// Whether the vault's folder is only for reading: its lock file cannot be opened for writing, or made.
pub(crate) fn read_only(path: &Place) -> Result<bool> {
    match path.open_to_write() {
        Ok(_) => Ok(false),
        Err(error) if forbidden(&error) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => match path.create_new() {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) if forbidden(&error) => Ok(true),
            Err(error) => Err(VaultError::io("create", path)(error)),
        },
        Err(error) => Err(VaultError::io("open", path)(error)),
    }
}

/// A read-only file system, or permissions that leave only reading.
pub(crate) fn forbidden(error: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM)
    )
}

/// The file to lock; `None` where nothing can be made and nothing is there.
fn file(path: &Place, exclusive: bool) -> Result<Option<File>> {
    loop {
        match path.open_to_write() {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => match path.create_new() {
                Ok(file) => return Ok(Some(file)),
                // Another process was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if forbidden(&error) && !exclusive => return Ok(None),
                Err(error) => return Err(VaultError::io("create", path)(error)),
            },
            Err(error) if forbidden(&error) && !exclusive => {
                return path.open().map(Some).map_err(VaultError::io("open", path));
            }
            Err(error) => return Err(VaultError::io("open", path)(error)),
        }
    }
}

fn acquire(path: &Place, wait: Duration, exclusive: bool) -> Result<VaultLock> {
    let attempt = if exclusive {
        File::try_lock
    } else {
        File::try_lock_shared
    };
    let start = Instant::now();
    // Most holders are done in a fraction of a millisecond.
    let mut pause = Duration::from_micros(50);
    let Some(mut opened) = file(path, exclusive)? else {
        return Ok(VaultLock {
            file: None,
            exclusive,
        });
    };
    loop {
        match attempt(&opened) {
            Ok(()) => {
                // A lock on a file that was removed or replaced in the meantime keeps nobody out.
                if path.is_of(&opened).map_err(VaultError::io("stat", path))? {
                    return Ok(VaultLock {
                        file: Some(opened),
                        exclusive,
                    });
                }
                if start.elapsed() > wait {
                    return Err(locked(&mut opened, wait));
                }
                match file(path, exclusive)? {
                    Some(other) => opened = other,
                    None => {
                        return Ok(VaultLock {
                            file: None,
                            exclusive,
                        });
                    }
                }
            }
            Err(TryLockError::WouldBlock) if start.elapsed() >= wait => {
                return Err(locked(&mut opened, wait));
            }
            Err(TryLockError::WouldBlock) => sleep(pause),
            Err(TryLockError::Error(error)) => return Err(VaultError::io("lock", path)(error)),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The name in the file is anybody's word: only a number is repeated.
fn locked(file: &mut File, wait: Duration) -> VaultError {
    let mut text = String::new();
    let named = Read::by_ref(file).take(64).read_to_string(&mut text);
    let number = named.ok().and_then(|_| {
        let number = text.trim_end().strip_prefix("process ")?;
        number.parse::<u32>().ok()
    });
    VaultError::Locked {
        by: number.map_or_else(
            || "another process".to_owned(),
            |id| format!("process {id}"),
        ),
        waited_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Whether nobody holds `file`; then it is ours.
pub(crate) fn take(file: &File) -> bool {
    file.try_lock().is_ok()
}
