//! What becomes of each intent that a crash left. A shred goes forward; an unfinished store goes back.

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::ops::many;
use crate::ops::reencrypt;
use crate::ops::shred;
use crate::system::failpoint;
use crate::system::files::{self, Place};
use crate::system::lock;
use crate::vault::{Exclusive, Intent};

/// 16 million objects in one commit.
pub(crate) const INTENT_MAX: u64 = 256 << 20;

/// Every kind of intent.
pub(crate) const INTENTS: &[Intent] = &[
    Intent {
        extension: "store",
        finish: undo_store,
    },
    Intent {
        extension: "stores",
        finish: undo_stores,
    },
    Intent {
        extension: "shred",
        finish: |exclusive, _, path| shred::forward(exclusive, path),
    },
    Intent {
        extension: "reencrypt",
        finish: |exclusive, id, path| reencrypt::forward(exclusive, id, path),
    },
];

/// A store whose writer is gone: without a keystore record its ciphertext is only waste.
fn undo_store(exclusive: &mut Exclusive<'_>, id: Uuid, intent: &Place) -> Result<()> {
    let Some(_file) = abandoned(intent)? else {
        return Ok(()); // its writer lives
    };
    let layout = &exclusive.inner.paths;
    let mut removed = files::remove(&layout.object_tmp(id))?;
    if exclusive.live(id).is_err() {
        removed |= files::remove(&layout.object(id))?;
    }
    if removed {
        exclusive
            .inner
            .log
            .record(Event::StoreRolledBack, json!({"object": id.to_string()}))?;
        failpoint::point("recover.logged")?;
    }
    files::remove(intent)?;
    files::sync_parent(intent)
}

/// Many stores in one commit, whose writer is gone.
fn undo_stores(exclusive: &mut Exclusive<'_>, _: Uuid, intent: &Place) -> Result<()> {
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
