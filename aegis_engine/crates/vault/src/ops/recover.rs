//! What a crash left in the journal. A shred goes forward; an unfinished store goes back.
//!
//! Called with the exclusive lock held and the keystore open: what lies in the folder is this vault's to tidy.

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::layout::Layout;
use crate::ops::many;
use crate::ops::reencrypt;
use crate::ops::shred;
use crate::system::fail;
use crate::system::files::{self, Kind, Place};
use crate::system::lock;
use crate::vault::Inner;
use crate::vault::exclusive::Exclusive;

/// 16 million objects in one commit.
pub(crate) const INTENT_MAX: u64 = 256 << 20;

impl Inner {
    /// Takes the lock, finishes what a crash left, loads the keystore.
    pub fn exclusive(&self) -> Result<Exclusive<'_>> {
        let mut exclusive = self.exclusive_as_it_is()?;
        roll(&mut exclusive)?;
        Ok(exclusive)
    }
}

/// What an interrupted replacement leaves beside the file: the rename decides, so it is waste.
pub(crate) fn leftovers(layout: &Layout) -> [Place; 3] {
    [layout.keystore(), layout.about(), layout.epoch_key()].map(|path| path.with_suffix(".tmp"))
}

/// Whether there is anything to finish, or a folder to make anew that a backup or a copy left out.
pub(crate) fn needed(layout: &Layout) -> Result<bool> {
    for left in leftovers(layout) {
        if files::exists(&left)? {
            return Ok(true);
        }
    }
    Ok(!files::exists(&layout.objects())?
        || !files::exists(&layout.journal())?
        || !files::list(&layout.journal())?.is_empty())
}

/// Finishes every intent nobody works on any more.
pub(crate) fn roll(exclusive: &mut Exclusive<'_>) -> Result<()> {
    fail::point("recover.start")?;
    for left in leftovers(&exclusive.inner.layout) {
        if files::exists(&left)? {
            files::discard(&left)?;
        }
    }
    let journal = exclusive.inner.layout.journal();
    // A backup or a copy may have left out empty folders.
    files::create_dir(&journal)?;
    files::create_dir(&exclusive.inner.layout.objects())?;
    for entry in files::list(&journal)? {
        let Some((stem, kind)) = entry.name.to_str().and_then(|name| name.rsplit_once('.')) else {
            continue;
        };
        let path = &entry.place;
        let id = stem.parse::<Uuid>().ok();
        // An intent is a plain file; a link, pipe or folder of that name is nobody's.
        match (entry.kind, id, kind) {
            (Kind::File, Some(id), "store") => undo_store(exclusive, id, path)?,
            (Kind::File, Some(_), "stores") => undo_stores(exclusive, path)?,
            (Kind::File, Some(_), "shred") => shred::forward(exclusive, path)?,
            (Kind::File, Some(id), "reencrypt") => reencrypt::forward(exclusive, id, path)?,
            // Interrupted before it was declared in vault.json: nothing happened. Or an intent that was never renamed in
            // place.
            (Kind::File | Kind::Other(_), _, "tmp" | "destroy") => {
                files::remove(path)?;
            }
            // Not ours; leave it to its owner.
            _ => {}
        }
    }
    Ok(())
}

/// A store whose writer is gone: without a keystore record its ciphertext is only waste.
fn undo_store(exclusive: &Exclusive<'_>, id: Uuid, intent: &Place) -> Result<()> {
    let Some(_file) = abandoned(intent)? else {
        return Ok(()); // its writer lives
    };
    let layout = &exclusive.inner.layout;
    let mut removed = files::remove(&layout.object_tmp(id))?;
    if exclusive.live(id).is_err() {
        removed |= files::remove(&layout.object(id))?;
    }
    if removed {
        exclusive
            .inner
            .log
            .record(Event::StoreRolledBack, json!({"object": id.to_string()}))?;
        fail::point("recover.logged")?;
    }
    files::remove(intent)?;
    files::sync_parent(intent)
}

/// Many stores in one commit, whose writer is gone.
fn undo_stores(exclusive: &Exclusive<'_>, intent: &Place) -> Result<()> {
    let Some(_file) = abandoned(intent)? else {
        return Ok(()); // its writer lives
    };
    let ids = many::ids(&files::read(intent, INTENT_MAX)?).unwrap_or_default();
    many::undo(exclusive, intent, &ids)
}

/// The intent, locked, when its writer is gone.
fn abandoned(intent: &Place) -> Result<Option<std::fs::File>> {
    match intent.open() {
        Ok(file) => Ok(lock::take(&file).then_some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(VaultError::io("open", intent)(error)),
    }
}
