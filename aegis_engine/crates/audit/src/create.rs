//! A new log: it appears under its name with its header whole.

use std::io::Write;

use aegis_folder::Place;

use crate::error::AuditError;
use crate::format;
use crate::read::wait;

/// Makes the file with its header, whole or not at all, and only when there is none.
pub(crate) fn create(dir: &Place, place: &Place, origin: &str) -> Result<(), AuditError> {
    if place.exists() {
        return Ok(());
    }
    // Locks on the folder keep two creators apart; the log's own lock has no file yet.
    let folder = dir.open_dir().map_err(AuditError::io("open", dir.path()))?;
    wait(dir.path(), || folder.try_lock())?;
    if place.exists() {
        return Ok(());
    }
    let temp = dir.join(format::NEW_FILE);
    // What a crash left: the name goes, whatever it leads to.
    temp.unlink()
        .map_err(AuditError::io("remove", temp.path()))?;
    let mut file = temp
        .create_new()
        .map_err(AuditError::io("create", temp.path()))?;
    file.write_all(&format::file_header(origin))
        .and_then(|()| file.sync_all())
        .map_err(AuditError::io("write", temp.path()))?;
    temp.rename(place)
        .and_then(|()| folder.sync_all())
        .map_err(AuditError::io("rename", temp.path()))
}
