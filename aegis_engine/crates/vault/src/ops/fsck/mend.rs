//! Repairs that lose nothing: what nobody knows goes to `lost+found/`.

use std::time::Duration;

use aegis_memory::Pages;

use crate::error::{Result, VaultError};
use crate::format::header::TAG;
use crate::format::keystore::KeyRecord;
use crate::format::paths::Paths;
use crate::object::file::ObjectFile;
use crate::system::files::{self, Entry, Kind, Place};
use crate::system::lock;
use crate::vault::{Exclusive, LOCK_WAIT_MS};

/// For what kept the vault from opening after its keystore had been opened.
pub(crate) fn set_aside_locked(paths: &Paths, path: &Place) -> Result<()> {
    let _held = lock::exclusive(&paths.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
    if files::exists(path)? {
        set_aside(paths, path)?;
    }
    Ok(())
}

/// Moves a file to `lost+found/` under a name that is free.
pub(crate) fn set_aside(paths: &Paths, path: &Place) -> Result<()> {
    let folder = paths.folder.place("lost+found");
    files::create_dir(&folder)?;
    let mut free = folder.join(path.file_name());
    let mut number = 0;
    while files::exists(&free)? {
        number += 1;
        free = folder
            .join(path.file_name())
            .with_suffix(&format!(".{number}"));
    }
    files::rename(path, &free)?;
    files::sync_parent(path)
}

pub(crate) fn tree(folder: &Place) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in files::list(folder)? {
        if entry.kind == Kind::Dir {
            all.extend(files::list(&entry.place)?);
        } else {
            all.push(entry);
        }
    }
    all.sort_by(|a, b| a.place.below().cmp(b.place.below()));
    Ok(all)
}

pub(crate) fn chunks_are_whole(exclusive: &Exclusive<'_>, record: &KeyRecord) -> Result<bool> {
    let file = ObjectFile::open(exclusive.inner, record)?;
    let verifier = file
        .locked(exclusive.inner, &exclusive.state().body, record)
        .verifier()?;
    let chunk = file.header.chunk();
    let mut sealed = Pages::new(chunk + TAG).map_err(VaultError::memory(chunk))?;
    let mut plain = Pages::new(chunk).map_err(VaultError::memory(chunk))?;
    for index in 0..file.header.chunks {
        let len = file.header.chunk_len(index);
        let sealed = file.sealed(index, &mut sealed)?;
        if !verifier.check(index, file.is_last(index), sealed, len, &mut plain) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn truncate(exclusive: &Exclusive<'_>, record: &KeyRecord, path: &Place) -> Result<()> {
    let len = ObjectFile::open(exclusive.inner, record)?.header.file_len();
    path.open_to_write()
        .and_then(|file| file.set_len(len).and_then(|()| file.sync_all()))
        .map_err(VaultError::io("truncate", path))
}
