//! What a crash left in the journal, finished by whoever takes the lock next.
//!
//! Called with the exclusive lock held and the keystore open: what lies in the folder is this vault's to tidy.

use uuid::Uuid;

use crate::error::Result;
use crate::format::paths::Paths;
use crate::system::failpoint;
use crate::system::files::{self, Kind, Place};
use crate::vault::Exclusive;

/// What an interrupted replacement leaves beside the file: the rename decides, so it is waste.
pub(crate) fn leftovers(paths: &Paths) -> [Place; 3] {
    [paths.keystore(), paths.about(), paths.epoch_key()].map(|path| path.with_suffix(".tmp"))
}

/// Whether there is anything to finish, or a folder to make anew that a backup or a copy left out.
pub(crate) fn needed(paths: &Paths) -> Result<bool> {
    for left in leftovers(paths) {
        if files::exists(&left)? {
            return Ok(true);
        }
    }
    Ok(!files::exists(&paths.objects())?
        || !files::exists(&paths.journal())?
        || !files::list(&paths.journal())?.is_empty())
}

/// Finishes every intent nobody works on any more.
pub(crate) fn roll_forward(exclusive: &mut Exclusive<'_>) -> Result<()> {
    failpoint::point("recover.start")?;
    for left in leftovers(&exclusive.inner.paths) {
        if files::exists(&left)? {
            files::discard(&left)?;
        }
    }
    let intents = exclusive.inner.intents;
    let journal = exclusive.inner.paths.journal();
    // A backup or a copy may have left out empty folders.
    files::create_dir(&journal)?;
    files::create_dir(&exclusive.inner.paths.objects())?;
    for entry in files::list(&journal)? {
        let Some((stem, extension)) = entry.name.to_str().and_then(|name| name.rsplit_once('.'))
        else {
            continue;
        };
        let path = &entry.place;
        let known = intents.iter().find(|intent| intent.extension == extension);
        // An intent is a plain file; a link, pipe or folder of that name is nobody's.
        match (entry.kind, stem.parse::<Uuid>(), known) {
            (Kind::File, Ok(id), Some(intent)) => (intent.finish)(exclusive, id, path)?,
            // Interrupted before it was declared in vault.json: nothing happened. Or an intent that was never renamed in
            // place.
            (Kind::File | Kind::Other(_), ..) if matches!(extension, "tmp" | "destroy") => {
                files::remove(path)?;
            }
            // Not ours; leave it to its owner.
            _ => {}
        }
    }
    Ok(())
}
