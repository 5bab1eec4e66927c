//! The end of a whole vault: its root, its keystore, its files.

use std::fs;
use std::time::Duration;

use aegis_audit::Log;
use serde_json::json;
use uuid::Uuid;

use crate::auth::Auth;
use crate::doctor::caveats;
use crate::error::{Result, VaultError};
use crate::fail;
use crate::files;
use crate::kdf::{self, Prk};
use crate::layout::{About, Layout};
use crate::lock;
use crate::provider::Provider;
use crate::receipt::{Level, ShredReceipt};
use crate::secret::Secret;
use crate::vault::{self, LOCK_WAIT_MS, State, Vault, hex, now};

/// Whoever can only write files must not make the vault destroy keys.
fn intent(when: u64, node: &Secret<32>) -> Result<String> {
    let key =
        Prk::extract(b"aegis/v1/node", node.expose()).expand(&[b"aegis/v1/destroy-intent"])?;
    Ok(hex(&kdf::mac(&key, &[&when.to_le_bytes()])))
}

impl Vault {
    /// Destroys the whole vault: the root secret, the keystore, every object file. The audit log and the consent ledger
    /// stay, as evidence. Afterwards every handle fails with [`VaultError::VaultDestroyed`].
    pub fn destroy(&self, require: Option<Level>) -> Result<ShredReceipt> {
        self.check_level(require)?;
        let exclusive = self.inner.exclusive()?;
        let layout = &self.inner.layout;
        let provider = self.inner.auth().provider.clone();
        let when = now();
        let objects: Vec<Uuid> = exclusive.body.records().map(|r| r.object).collect();
        let copies = exclusive.body.copies.clone();
        let epoch = exclusive.epoch;
        files::replace(
            &layout.destroy_intent(),
            intent(when, &exclusive.body.node)?.as_bytes(),
        )?;
        fail::point("destroy.intent")?;
        let mut about = About::read(layout)?;
        about.destroyed = Some(when);
        // The point of no return: from here on every open goes forward.
        about.write(layout)?;
        fail::point("destroy.declared")?;
        let (audit_seq, note) = wipe(layout, &about, epoch, &provider, &self.inner.log)?;
        let mut caveats = caveats(&layout.root);
        caveats.extend(note);
        Ok(ShredReceipt {
            objects,
            level: provider.level(),
            epoch_before: epoch,
            epoch_after: epoch,
            when,
            file_removed: true,
            audit_seq,
            copies,
            caveats,
        })
    }
}

/// Idempotent: root first, then what it opened, then what only takes space.
fn wipe(
    layout: &Layout,
    about: &About,
    epoch: u64,
    provider: &Provider,
    log: &Log,
) -> Result<(u64, Option<String>)> {
    let gone = provider.destroy(about.id, epoch)?;
    fail::point("destroy.provider")?;
    for path in [layout.epoch_key(), layout.epoch_next(), layout.keystore()] {
        files::overwrite(&path)?;
        if files::remove(&path)? {
            files::sync_parent(&path)?;
        }
        fail::point("destroy.file")?;
    }
    for shard in list(&layout.objects())? {
        for file in list(&shard)? {
            files::remove(&file)?;
        }
        fs::remove_dir(&shard).map_err(VaultError::io("remove folder", &shard))?;
    }
    fail::point("destroy.objects")?;
    for path in list(&layout.journal())? {
        if path != layout.destroy_intent() {
            files::remove(&path)?;
        }
    }
    let record = log.append(&json!({
        "event": "destroy", "vault": about.id.to_string(), "epoch": epoch, "level": provider.level().name(),
        "when": about.destroyed,
    }))?;
    files::remove(&layout.destroy_intent())?;
    files::sync_parent(&layout.destroy_intent())?;
    Ok((record.seq, gone.note))
}

fn list(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(VaultError::io("list", folder))?;
    entries
        .map(|entry| Ok(entry.map_err(VaultError::io("list", folder))?.path()))
        .collect()
}

/// Finishes a destruction that a crash interrupted, and gives the error every open of a destroyed vault ends with.
pub(crate) fn forward(layout: &Layout, about: &About, provider: &Provider) -> Result<VaultError> {
    let when = about.destroyed.unwrap_or_default();
    let destroyed = VaultError::VaultDestroyed {
        path: layout.root.clone(),
        when,
    };
    if !layout.destroy_intent().exists() {
        return Ok(destroyed);
    }
    let _held = lock::exclusive(&layout.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
    let mut epoch = about.epoch;
    if let Ok((_, envelope)) = vault::keystore(layout, about.id) {
        epoch = envelope.epoch;
        // Another key than the vault's must not finish it.
        let auth = std::sync::Arc::new(Auth::of(&envelope, provider, &layout.root)?);
        if let Ok((State { body, .. }, _)) = State::load(layout, about.id, &auth) {
            let genuine = intent(when, &body.node)?;
            let found = files::read(&layout.destroy_intent(), 1024)?;
            if !kdf::same(genuine.as_bytes(), &found) {
                let what = format!(
                    "the vault at {} is marked as destroyed, but its intent is forged; remove journal/vault.destroy and \
                     the field \"destroyed\" of vault.json",
                    layout.root.display()
                );
                return Err(VaultError::BadRequest { what });
            }
        }
    }
    let log = Log::open(&layout.audit(), &format!("aegis/audit/{}", about.id))?;
    wipe(layout, about, epoch, provider, &log)?;
    Ok(destroyed)
}
