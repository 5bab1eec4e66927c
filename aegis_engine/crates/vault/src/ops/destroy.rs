//! The end of a whole vault: its root, its keystore, its files.

use std::ffi::OsStr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use aegis_audit::{Event, Log};
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::header::{HEADER, Header};
use crate::format::paths::{About, Paths};
use crate::kdf;
use crate::keys::auth::Auth;
use crate::keys::epoch;
use crate::keys::provider::{Destroyed, Provider};
use crate::level::Level;
use crate::ops::doctor::caveats;
use crate::ops::receipt::ShredReceipt;
use crate::secret::Secret;
use crate::system::failpoint;
use crate::system::files::{self, Entry, Kind};
use crate::system::lock;
use crate::vault::proof;
use crate::vault::state::{self, State};
use crate::vault::trail;
use crate::vault::{LOCK_WAIT_MS, Vault, hex, now};

/// Whoever can only write files must not make the vault destroy keys.
fn intent(when: u64, node: &Secret<32>) -> Result<String> {
    let mac = proof::mac(b"aegis/v1/destroy-intent", node, &[&when.to_le_bytes()])?;
    Ok(hex(&mac))
}

impl Vault {
    /// Destroys the whole vault: the root secret, the keystore, every object file. The audit log and the consent ledger
    /// stay, as evidence. Afterwards every handle fails with [`VaultError::VaultDestroyed`].
    pub fn destroy(&self, require: Option<Level>) -> Result<ShredReceipt> {
        self.check_level(require)?;
        let exclusive = self.inner.exclusive()?;
        let paths = &self.inner.paths;
        for secret in [paths.epoch_key(), paths.keystore()] {
            files::sole(&secret)?;
        }
        let provider = self.inner.auth().provider.clone();
        let when = now();
        let (objects, copies, mac) = {
            let body = &exclusive.state().body;
            let objects: Vec<Uuid> = body.records().map(|r| r.object).collect();
            (objects, body.copies.clone(), intent(when, &body.node)?)
        };
        let epoch = exclusive.epoch;
        files::replace(&paths.destroy_intent(), mac.as_bytes())?;
        failpoint::point("destroy.intent")?;
        let mut about = About::read(paths)?;
        about.destroyed = Some(when);
        // The point of no return: from here on every open goes forward.
        about.write(paths)?;
        failpoint::point("destroy.declared")?;
        let (audit_seq, note) = wipe(paths, &about, epoch, &provider, true, &self.inner.log)?;
        let mut caveats = caveats(&paths.root);
        caveats.extend(note);
        Ok(ShredReceipt {
            objects,
            level: provider.level(),
            epoch_before: epoch,
            epoch_after: epoch,
            when,
            audit_seq,
            copies,
            caveats,
        })
    }
}

/// Idempotent: root first, then what it opened, then what only takes space.
fn wipe(
    paths: &Paths,
    about: &About,
    epoch: u64,
    provider: &Provider,
    genuine: bool,
    log: &Log,
) -> Result<(u64, Option<String>)> {
    // Only on the word of somebody who knows the node secret. Otherwise it was asked before the keystore went.
    let gone = if genuine {
        provider.destroy(about.id, epoch)?
    } else {
        Destroyed::default()
    };
    failpoint::point("destroy.provider")?;
    for path in [paths.epoch_key(), paths.epoch_next(), paths.keystore()] {
        files::overwrite(&path)?;
        if files::remove(&path)? {
            files::sync_parent(&path)?;
        }
        failpoint::point("destroy.file")?;
    }
    for shard in files::list(&paths.objects())? {
        if shard.kind != Kind::Dir {
            continue;
        }
        for file in files::list(&shard.place)? {
            if object_of(&file, about.id, genuine) {
                files::remove(&file.place)?;
            }
        }
        // A folder with something of somebody else's in it stays.
        let _ = shard.place.rmdir();
    }
    failpoint::point("destroy.objects")?;
    for entry in files::list(&paths.journal())? {
        if entry.kind == Kind::File
            && entry.place != paths.destroy_intent()
            && is_intent(&entry.name)
        {
            files::remove(&entry.place)?;
        }
    }
    let facts = json!({
        "vault": about.id.to_string(), "epoch": epoch, "level": provider.level().name(),
        "when": about.destroyed,
    });
    let record = log.record(Event::Destroy, facts)?;
    failpoint::point("destroy.logged")?;
    files::remove(&paths.destroy_intent())?;
    files::sync_parent(&paths.destroy_intent())?;
    Ok((record.seq, gone.note))
}

/// Whether it is an object's file of this vault: a plain file with the name of one. Where the keystore is gone, and with it
/// all that could tell a genuine end of this vault from a folder made to look like one, its header must name the vault.
fn object_of(entry: &Entry, vault: Uuid, genuine: bool) -> bool {
    let Some(name) = entry.name.to_str().filter(|_| entry.kind == Kind::File) else {
        return false;
    };
    let (stem, whole) = match name.strip_suffix(".enc.tmp") {
        Some(stem) => (stem, false),
        None => (name.strip_suffix(".enc").unwrap_or_default(), true),
    };
    let Ok(id) = stem.parse::<Uuid>() else {
        return false;
    };
    if genuine {
        return true;
    }
    let mut raw = [0; HEADER];
    whole
        && entry
            .place
            .open()
            .and_then(|file| file.read_exact_at(&mut raw, 0))
            .is_ok()
        && Header::decode(&raw, id).is_ok_and(|header| header.vault == vault)
}

/// `<uuid>.store`, `.shred`, `.reencrypt`, and each while it is written.
fn is_intent(name: &OsStr) -> bool {
    let name = name.to_str().unwrap_or_default();
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    name.rsplit_once('.').is_some_and(|(stem, kind)| {
        ["store", "stores", "shred", "reencrypt"].contains(&kind) && stem.parse::<Uuid>().is_ok()
    })
}

/// Finishes a destruction that a crash interrupted, and gives the error every open of a destroyed vault ends with.
pub(crate) fn forward(paths: &Paths, about: &About, provider: &Provider) -> Result<VaultError> {
    let when = about.destroyed.unwrap_or_default();
    let destroyed = VaultError::VaultDestroyed {
        path: paths.root.clone(),
        when,
    };
    if !files::exists(&paths.destroy_intent())? || lock::read_only(&paths.lock())? {
        return Ok(destroyed);
    }
    let mut held = lock::exclusive(&paths.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
    // Another process may have finished it in the meantime.
    if !files::exists(&paths.destroy_intent())? {
        return Ok(destroyed);
    }
    let about = &About::read(paths)?;
    let (epoch, genuine) = judge(paths, about, provider)?;
    held.sign();
    let log = Log::open(&paths.audit(), &trail::origin(about.id))?;
    wipe(paths, about, epoch, provider, genuine, &log)?;
    Ok(destroyed)
}

/// What a crash left: the epoch, and whether the intent was authenticated. A keystore that does not open is only taken for
/// one that was being destroyed when the epoch secret is gone, which goes first; else files were altered, and nothing happens.
fn judge(paths: &Paths, about: &About, provider: &Provider) -> Result<(u64, bool)> {
    let forged = || VaultError::BadRequest {
        what: format!(
            "the vault at {} is marked as destroyed, but that is forged or its keystore is damaged; remove journal/vault.destroy \
             and the field \"destroyed\" of vault.json, then open it again",
            paths.root.display()
        ),
    };
    let (_, envelope) = match state::keystore(paths, about.id) {
        Ok(found) => found,
        // A link or a pipe in its place was not left by a crash.
        Err(unfit @ VaultError::Unfit { .. }) => return Err(unfit),
        Err(_) if !epoch::any_left(paths, about.id) => return Ok((about.epoch, false)),
        Err(_) => return Err(forged()),
    };
    // Another key than the vault's must not finish it.
    let auth = Arc::new(Auth::of(&envelope, provider, &paths.root)?);
    match State::load(paths, about.id, &auth) {
        Ok((State { body, .. }, _)) => {
            let genuine = intent(about.destroyed.unwrap_or_default(), &body.node)?;
            let found = files::read(&paths.destroy_intent(), 1024)?;
            if kdf::same(genuine.as_bytes(), &found) {
                Ok((envelope.epoch, true))
            } else {
                Err(forged())
            }
        }
        // A token or service that has destroyed its key says so; whatever else it says is not taken for that.
        Err(VaultError::KeyDestroyed { .. })
            if auth.wraps() || !epoch::any_left(paths, about.id) =>
        {
            Ok((envelope.epoch, false))
        }
        Err(error @ VaultError::ProviderError { .. }) => Err(error),
        Err(_) => Err(forged()),
    }
}
