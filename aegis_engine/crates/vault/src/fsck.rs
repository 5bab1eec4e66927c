//! The check of a whole vault folder: names each damage and what to do; repairs only what cannot lose anything.
//!
//! A repair never deletes what a key might still open: files that nobody knows go to `lost+found/`. What it removes is
//! left over from a crash (temporary files) or has no key any more (ciphertext of shredded objects).

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aegis_audit::Event;
use aegis_memory::Pages;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::exclusive::Exclusive;
use crate::files;
use crate::header::TAG;
use crate::keystore::{Entry, Record};
use crate::layout::{About, Layout};
use crate::many;
use crate::object::ObjectFile;
use crate::provider::Provider;
use crate::recover;
use crate::state;
use crate::trail;
use crate::vault::Vault;

/// How bad a finding is, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong with the vault, and somebody should know.
    Notice,
    /// Left over, or laxer than it should be; nothing is lost.
    Note,
    /// Something stored cannot be read as it is.
    Damage,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Path within the vault.
    pub place: String,
    /// The object it concerns.
    pub object: Option<Uuid>,
    /// How bad.
    pub severity: Severity,
    /// What was found.
    pub damage: String,
    /// What a repair does, or what the owner must do.
    pub action: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// What [`Vault::fsck`] found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FsckReport {
    /// Every finding, in the order of the checks.
    pub findings: Vec<Finding>,
    /// Live objects whose header and size were checked.
    pub objects: u64,
    /// Whether the keystore could be opened; without it the objects were not looked at.
    pub opened: bool,
}

impl FsckReport {
    /// Nothing is left that is wrong.
    pub fn clean(&self) -> bool {
        let settled = |finding: &Finding| finding.repaired || finding.severity == Severity::Notice;
        self.opened && self.findings.iter().all(settled)
    }
}

/// What a check may change.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsckOptions {
    /// Repair what can be repaired without losing anything.
    pub repair: bool,
    /// Go on from a keystore that is older than the audit log says: objects stored since are lost.
    pub accept_older_keystore: bool,
}

impl Vault {
    /// Checks the folder `path`: public file, keystore, epoch secret, journal, every header and size, files nobody knows,
    /// audit log. Reads no content; [`Vault::scrub`] does. As every opening does, it first finishes what a crash interrupted.
    ///
    /// # Errors
    /// There is no vault, it was destroyed, or the key is wrong. Damage is a finding, not an error.
    pub fn fsck(path: &Path, provider: &Provider, options: FsckOptions) -> Result<FsckReport> {
        let mut check = Check {
            layout: Layout::new(path),
            repair: options.repair,
            report: FsckReport::default(),
        };
        check.about()?;
        check.leftovers()?;
        check.modes()?;
        let Some(vault) = check.open(provider, options)? else {
            return Ok(check.report);
        };
        check.report.opened = true;
        check.opening_removed();
        check.audit(&vault);
        let exclusive = vault.inner.exclusive()?;
        check.records(&exclusive)?;
        check.strangers(&exclusive)?;
        exclusive.done()?;
        let repaired = check.report.findings.iter().filter(|f| f.repaired).count();
        let facts = json!({
            "objects": check.report.objects, "findings": check.report.findings.len(),
            "repaired": repaired,
        });
        vault.inner.log.record(Event::Fsck, facts)?;
        Ok(check.report)
    }
}

/// What an interrupted replacement leaves in the vault's folder.
const LEFTOVERS: [&str; 3] = ["keystore.akv.tmp", "vault.json.tmp", "epoch.key.tmp"];

struct Check {
    layout: Layout,
    repair: bool,
    report: FsckReport,
}

impl Check {
    /// Records a finding; with `--repair`, mends it first.
    fn find(
        &mut self,
        severity: Severity,
        place: &Path,
        object: Option<Uuid>,
        damage: impl Into<String>,
        action: impl Into<String>,
        mend: impl FnOnce(&Layout) -> Result<()>,
    ) -> Result<()> {
        if self.repair {
            mend(&self.layout)?;
        }
        let repaired = self.repair;
        self.push(severity, place, object, damage, action, repaired);
        Ok(())
    }

    /// Records a finding only its owner can mend.
    fn tell(
        &mut self,
        severity: Severity,
        place: &Path,
        object: Option<Uuid>,
        damage: impl Into<String>,
        action: impl Into<String>,
    ) {
        self.push(severity, place, object, damage, action, false);
    }

    fn push(
        &mut self,
        severity: Severity,
        place: &Path,
        object: Option<Uuid>,
        damage: impl Into<String>,
        action: impl Into<String>,
        repaired: bool,
    ) {
        let place = place.strip_prefix(&self.layout.root).unwrap_or(place);
        self.report.findings.push(Finding {
            place: place.display().to_string(),
            object,
            severity,
            damage: damage.into(),
            action: action.into(),
            repaired,
        });
    }

    /// `vault.json` can be rebuilt from the readable part of the keystore.
    fn about(&mut self) -> Result<()> {
        let path = self.layout.about();
        let damage = match About::read(&self.layout) {
            Ok(About {
                destroyed: Some(when),
                ..
            }) if !self.layout.destroy_intent().exists() => {
                return Err(VaultError::VaultDestroyed {
                    path: self.layout.root.clone(),
                    when,
                });
            }
            Ok(_) => return Ok(()),
            Err(VaultError::AboutDamaged { reason, .. }) => reason,
            Err(VaultError::NotAVault { .. }) if self.layout.keystore().exists() => {
                "it is missing".to_owned()
            }
            Err(error) => return Err(error),
        };
        let envelope = state::peek(&self.layout)?;
        self.find(
            Severity::Damage,
            &path,
            None,
            damage,
            "write it anew from the keystore",
            |layout| About::new(envelope.vault, envelope.provider, envelope.epoch).write(layout),
        )
    }

    /// Temporary files of an interrupted replacement: the rename decides, so they are waste.
    fn leftovers(&mut self) -> Result<()> {
        for name in LEFTOVERS {
            let path = self.layout.root.join(name);
            if path.exists() {
                self.find(
                    Severity::Note,
                    &path,
                    None,
                    "left over from an interrupted write",
                    "overwrite and remove it",
                    |_| {
                        files::overwrite(&path)?;
                        files::remove(&path).map(drop)
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Opening a vault finishes what a crash interrupted, as a file system replays its journal: also without `repair`.
    fn opening_removed(&mut self) {
        for finding in &mut self.report.findings {
            if LEFTOVERS.contains(&finding.place.as_str()) {
                finding.repaired |= !self.layout.root.join(&finding.place).exists();
            }
        }
    }

    fn modes(&mut self) -> Result<()> {
        let private = [
            (self.layout.root.clone(), 0o700),
            (self.layout.epoch_key(), 0o600),
            (self.layout.keystore(), 0o600),
        ];
        for (path, wanted) in private {
            let Ok(about) = fs::metadata(&path) else {
                continue;
            };
            let mode = about.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                self.find(
                    Severity::Note,
                    &path,
                    None,
                    format!("open to others (mode {mode:o})"),
                    format!("chmod {wanted:o}"),
                    |_| {
                        fs::set_permissions(&path, fs::Permissions::from_mode(wanted))
                            .map_err(VaultError::io("chmod", &path))
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Opens the vault, past intents that cannot be carried out.
    fn open(&mut self, provider: &Provider, options: FsckOptions) -> Result<Option<Vault>> {
        loop {
            let opened = if options.accept_older_keystore {
                Vault::open_accepting_older(&self.layout.root, provider)
            } else {
                Vault::open(&self.layout.root, provider)
            };
            let error = match opened {
                Ok(vault) => return Ok(Some(vault)),
                Err(
                    error @ (VaultError::WrongKey { .. }
                    | VaultError::WrongProvider { .. }
                    | VaultError::WrongKeyLength { .. }
                    | VaultError::ProviderError { .. }
                    | VaultError::VaultDestroyed { .. }
                    | VaultError::Locked { .. }),
                ) => return Err(error),
                Err(error) => error,
            };
            if let VaultError::IntentForged { path } = &error {
                let path = path.clone();
                self.find(
                    Severity::Damage,
                    &path,
                    None,
                    "damaged or forged: what it asks for was not done",
                    "move it to lost+found; shred the object again if that was wanted",
                    |layout| set_aside(layout, &path),
                )?;
                if self.repair {
                    continue;
                }
                return Ok(None);
            }
            let place = match &error {
                VaultError::KeyDestroyed { .. } => self.layout.epoch_key(),
                VaultError::AuditRollback { .. } | VaultError::Audit(_) => self.layout.audit(),
                VaultError::Policy(_) => self.layout.consent(),
                VaultError::KeystoreCorrupt { .. }
                | VaultError::KeystoreRollback { .. }
                | VaultError::KeystoreStale { .. } => self.layout.keystore(),
                _ => self.layout.root.clone(),
            };
            let action = match &error {
                VaultError::KeyDestroyed { .. } | VaultError::KeystoreCorrupt { .. } => {
                    "restore keystore.akv and epoch.key of the same epoch, or a keystore backup (`aegis vault restore`)"
                }
                VaultError::KeystoreStale { .. } => {
                    "restore the current keystore.akv, or accept this one (--accept-older-keystore)"
                }
                _ => "see the damage",
            };
            self.tell(Severity::Damage, &place, None, error.to_string(), action);
            return Ok(None);
        }
    }

    fn audit(&mut self, vault: &Vault) {
        let folder = self.layout.audit();
        let origin = trail::origin(vault.id());
        if let Err(error) = aegis_audit::verify(&folder, Some(&origin), None) {
            self.tell(
                Severity::Damage,
                &folder,
                None,
                error.to_string(),
                "restore the audit folder from a backup",
            );
            return;
        }
        if let Ok(forged @ 1..) = trail::forged(&self.layout, &vault.inner.known().body.node) {
            self.tell(
                Severity::Notice,
                &folder,
                None,
                format!("{forged} records about the keystore or the policy without a proof: the vault did not write them"),
                "they do not count; keep the log as evidence, and find out who can write to the folder",
            );
        }
    }

    /// Header, keys and size of every live object.
    fn records(&mut self, exclusive: &Exclusive<'_>) -> Result<()> {
        let inner = exclusive.inner;
        let state = exclusive.state();
        let records: Vec<&Record> = state.body.records().collect();
        for record in records {
            self.report.objects += 1;
            let path = self.layout.object(record.object);
            let checked = (|| {
                let file = ObjectFile::open(inner, record)?;
                file.locked(inner, &state.body, record).header_keys()?;
                file.check_size()
            })();
            let Err(error) = checked else { continue };
            let id = Some(record.object);
            match &error {
                VaultError::TrailingData { extra, .. } => {
                    let whole = chunks_are_whole(exclusive, record)?;
                    if whole {
                        self.find(
                            Severity::Damage,
                            &path,
                            id,
                            format!("{extra} bytes follow its end; every chunk is whole"),
                            "cut them off",
                            |_| truncate(exclusive, record, &path),
                        )?;
                    } else {
                        self.tell(
                            Severity::Damage,
                            &path,
                            id,
                            error.to_string(),
                            "restore the file from a backup, or shred the object",
                        );
                    }
                }
                _ => self.tell(
                    Severity::Damage,
                    &path,
                    id,
                    error.to_string(),
                    "restore the file from a backup, or shred the object",
                ),
            }
        }
        Ok(())
    }

    /// Files under `objects/` that no live record claims. The exclusive lock is held: no store is between its rename
    /// and its record.
    fn strangers(&mut self, exclusive: &Exclusive<'_>) -> Result<()> {
        let writing = written(&self.layout)?;
        for path in tree(&self.layout.objects())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (stem, tmp) = match name.strip_suffix(".enc.tmp") {
                Some(stem) => (stem, true),
                None => (name.strip_suffix(".enc").unwrap_or(&name), false),
            };
            let id = stem.parse::<Uuid>().ok();
            if tmp
                && id.is_some_and(|id| {
                    writing.contains(&id) || self.layout.store_intent(id).exists()
                })
            {
                continue; // its writer lives: dead ones were rolled back
            }
            let place = id.map(|id| self.layout.object(id));
            match id.and_then(|id| exclusive.entry(id)) {
                Some(Entry::Live(_)) if !tmp && place.as_deref() == Some(&path) => {}
                Some(Entry::Shredded { .. }) => self.find(
                    Severity::Note,
                    &path,
                    id,
                    "the ciphertext of a shredded object: its key is gone",
                    "remove it",
                    |_| files::remove(&path).map(drop),
                )?,
                _ if tmp => self.find(
                    Severity::Note,
                    &path,
                    id,
                    "left over from an interrupted store",
                    "remove it",
                    |_| files::remove(&path).map(drop),
                )?,
                _ => self.find(
                    Severity::Damage,
                    &path,
                    id,
                    "no key record claims this file",
                    "move it to lost+found; a keystore backup may know it",
                    |layout| set_aside(layout, &path),
                )?,
            }
        }
        Ok(())
    }
}

/// Objects of the stores of many that are under way.
fn written(layout: &Layout) -> Result<HashSet<Uuid>> {
    let mut all = HashSet::new();
    for path in tree(&layout.journal())? {
        if path.extension().is_some_and(|end| end == "stores") {
            let bytes = files::read(&path, recover::INTENT_MAX)?;
            all.extend(many::ids(&bytes).unwrap_or_default());
        }
    }
    Ok(all)
}

fn chunks_are_whole(exclusive: &Exclusive<'_>, record: &Record) -> Result<bool> {
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

fn truncate(exclusive: &Exclusive<'_>, record: &Record, path: &Path) -> Result<()> {
    let len = ObjectFile::open(exclusive.inner, record)?.header.file_len();
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(len).and_then(|()| file.sync_all()))
        .map_err(VaultError::io("truncate", path))
}

/// Moves a file to `lost+found/` under a name that is free.
fn set_aside(layout: &Layout, path: &Path) -> Result<()> {
    let folder = layout.root.join("lost+found");
    files::create_dir(&folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut free = folder.join(name.as_ref());
    let mut number = 0;
    while free.exists() {
        number += 1;
        free = folder.join(format!("{name}.{number}"));
    }
    files::rename(path, &free)?;
    files::sync_parent(path)
}

fn tree(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let list = |folder: &Path| fs::read_dir(folder).map_err(VaultError::io("list", folder));
    for entry in list(folder)? {
        let path = entry.map_err(VaultError::io("list", folder))?.path();
        if path.is_dir() {
            for entry in list(&path)? {
                all.push(entry.map_err(VaultError::io("list", &path))?.path());
            }
        } else {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}
