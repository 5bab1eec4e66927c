//! The vault's advisory lock: shared to load the keystore, exclusive to change it, with a bounded wait.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Result, VaultError};

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct VaultLock {
    _file: File,
}

/// Waits at most `wait` for a shared lock.
pub(crate) fn shared(path: &Path, wait: Duration) -> Result<VaultLock> {
    acquire(path, wait, File::try_lock_shared).map(|file| VaultLock { _file: file })
}

/// Waits at most `wait` for the exclusive lock and writes who holds it into the file.
pub(crate) fn exclusive(path: &Path, wait: Duration) -> Result<VaultLock> {
    let mut file = acquire(path, wait, File::try_lock)?;
    // Only informative: a failure to write the name must not cost the lock.
    let named = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "process {}", std::process::id()));
    drop(named);
    Ok(VaultLock { _file: file })
}

fn acquire(
    path: &Path,
    wait: Duration,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<File> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(VaultError::io("open", path))?;
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() >= wait => {
                let mut by = String::new();
                let known = file.read_to_string(&mut by).is_ok() && by.starts_with("process ");
                let by = if known {
                    by.trim().to_owned()
                } else {
                    "another process".to_owned()
                };
                let waited_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                return Err(VaultError::Locked { by, waited_ms });
            }
            Err(TryLockError::WouldBlock) => sleep(pause),
            Err(TryLockError::Error(error)) => return Err(VaultError::io("lock", path)(error)),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Whether nobody holds `file`; then it is ours.
pub(crate) fn take(file: &File) -> bool {
    file.try_lock().is_ok()
}
