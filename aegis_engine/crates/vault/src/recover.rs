//! What a crash left in the journal. A shred goes forward; an unfinished store goes back.

use std::fs::{self, File};
use std::path::Path;

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::exclusive::Exclusive;
use crate::fail;
use crate::files;
use crate::layout::Layout;
use crate::lock;
use crate::many;
use crate::reencrypt;
use crate::shred;

/// 16 million objects in one commit.
pub(crate) const INTENT_MAX: u64 = 256 << 20;

/// Finishes every intent nobody works on any more.
pub(crate) fn roll(exclusive: &mut Exclusive<'_>) -> Result<()> {
    fail::point("recover.start")?;
    leftovers(&exclusive.inner.layout)?;
    let journal = exclusive.inner.layout.journal();
    // A backup or a copy may have left out empty folders.
    files::create_dir(&journal)?;
    files::create_dir(&exclusive.inner.layout.objects())?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&journal).map_err(VaultError::io("list", &journal))? {
        names.push(entry.map_err(VaultError::io("list", &journal))?.path());
    }
    names.sort();
    for path in names {
        let id = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse::<Uuid>().ok());
        match (id, path.extension().and_then(|e| e.to_str())) {
            (Some(id), Some("store")) => undo_store(exclusive, id, &path)?,
            (Some(_), Some("stores")) => undo_stores(exclusive, &path)?,
            (Some(_), Some("shred")) => shred::forward(exclusive, &path)?,
            (Some(id), Some("reencrypt")) => reencrypt::forward(exclusive, id, &path)?,
            // Interrupted before it was declared in vault.json: nothing happened.
            (_, Some("tmp" | "destroy")) => {
                // Or an intent that was never renamed in place.
                files::remove(&path)?;
            }
            // Not ours; leave it to its owner.
            _ => {}
        }
    }
    Ok(())
}

/// A store whose writer is gone: without a keystore record its ciphertext is only waste.
fn undo_store(exclusive: &Exclusive<'_>, id: Uuid, intent: &Path) -> Result<()> {
    let Ok(file) = File::open(intent) else {
        return Ok(());
    };
    if !lock::take(&file) {
        return Ok(()); // its writer lives
    }
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
fn undo_stores(exclusive: &Exclusive<'_>, intent: &Path) -> Result<()> {
    let Ok(file) = File::open(intent) else {
        return Ok(());
    };
    if !lock::take(&file) {
        return Ok(()); // its writer lives
    }
    let ids = many::ids(&files::read(intent, INTENT_MAX)?).unwrap_or_default();
    many::undo(exclusive, intent, &ids)
}

/// Replacements that were not renamed in place: the old file counts.
fn leftovers(layout: &Layout) -> Result<()> {
    for path in [layout.keystore(), layout.about(), layout.epoch_key()] {
        let mut name = path.into_os_string();
        name.push(".tmp");
        let tmp = Path::new(&name);
        if tmp.exists() {
            files::overwrite(tmp)?;
            files::remove(tmp)?;
            files::sync_parent(tmp)?;
        }
    }
    Ok(())
}
