//! The check of a whole vault folder: names each damage and what to do; repairs only what cannot lose anything.
//!
//! A repair never deletes what a key might still open: files that nobody knows go to `lost+found/`. What it removes is
//! left over from a crash (temporary files) or has no key any more (ciphertext of shredded objects).

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use aegis_audit::Event;
use aegis_memory::Pages;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::exclusive::Exclusive;
use crate::files::{self, Entry, Kind, Place};
use crate::header::TAG;
use crate::keystore::{Entry as Known, Record};
use crate::layout::{About, Layout};
use crate::lock::{self, VaultLock};
use crate::many;
use crate::object::ObjectFile;
use crate::provider::Provider;
use crate::recover;
use crate::state;
use crate::trail;
use crate::vault::{LOCK_WAIT_MS, Opening, Vault};

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
    /// Nothing is changed before the key has opened the keystore under the exclusive lock, which is held to the end: what a
    /// living writer has under way is not touched.
    ///
    /// # Errors
    /// There is no vault, it was destroyed, or the key is wrong. Damage is a finding, not an error.
    pub fn fsck(path: &Path, provider: &Provider, options: FsckOptions) -> Result<FsckReport> {
        let mut check = Check {
            repair: options.repair,
            report: FsckReport::default(),
            layout: Layout::open(path)?,
        };
        let rebuild = check.about()?;
        let left = check.leftovers()?;
        let Some((vault, held)) = check.open(provider, options, rebuild)? else {
            check.modes()?;
            return Ok(check.report);
        };
        if options.repair {
            vault.inner.writable()?;
        }
        check.report.opened = true;
        check.opened(&left)?;
        check.modes()?;
        check.audit(&vault);
        let exclusive = vault.inner.exclusive_holding(held)?;
        check.records(&exclusive)?;
        check.strangers(&exclusive)?;
        if !vault.read_only() {
            let repaired = check.report.findings.iter().filter(|f| f.repaired).count();
            let facts = json!({
                "objects": check.report.objects, "findings": check.report.findings.len(),
                "repaired": repaired,
            });
            vault.inner.log.record(Event::Fsck, facts)?;
        }
        exclusive.done()?;
        Ok(check.report)
    }
}

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
        place: &Place,
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
        place: &Place,
        object: Option<Uuid>,
        damage: impl Into<String>,
        action: impl Into<String>,
    ) {
        self.push(severity, place, object, damage, action, false);
    }

    fn push(
        &mut self,
        severity: Severity,
        place: &Place,
        object: Option<Uuid>,
        damage: impl Into<String>,
        action: impl Into<String>,
        repaired: bool,
    ) {
        let below = match place.below() {
            root if root == Path::new(".") => String::new(),
            below => below.display().to_string(),
        };
        self.report.findings.push(Finding {
            place: below,
            object,
            severity,
            damage: damage.into(),
            action: action.into(),
            repaired,
        });
    }

    /// `vault.json` can be rebuilt from the readable part of the keystore. Whether the opening is to do that.
    fn about(&mut self) -> Result<bool> {
        let damage = match About::read(&self.layout) {
            Ok(About {
                destroyed: Some(when),
                ..
            }) if !files::exists(&self.layout.destroy_intent())? => {
                return Err(VaultError::VaultDestroyed {
                    path: self.layout.root.clone(),
                    when,
                });
            }
            Ok(_) => return Ok(false),
            Err(VaultError::AboutDamaged { reason, .. }) => reason,
            Err(VaultError::NotAVault { .. }) if files::exists(&self.layout.keystore())? => {
                "it is missing".to_owned()
            }
            Err(error) => return Err(error),
        };
        state::peek(&self.layout)?;
        let path = self.layout.about();
        self.tell(
            Severity::Damage,
            &path,
            None,
            damage,
            "write it anew from the keystore",
        );
        Ok(self.repair)
    }

    /// Temporary files of an interrupted replacement: the rename decides, so they are waste. Seen without a lock: a living
    /// writer's are taken back when the vault is open.
    fn leftovers(&mut self) -> Result<Vec<Place>> {
        let mut seen = Vec::new();
        for path in recover::leftovers(&self.layout) {
            if files::exists(&path)? {
                self.tell(
                    Severity::Note,
                    &path,
                    None,
                    "left over from an interrupted write",
                    "overwrite and remove it",
                );
                seen.push(path);
            }
        }
        Ok(seen)
    }

    /// Opening a vault finishes what a crash interrupted, as a file system replays its journal: also without `repair`.
    /// Under the lock, what is gone was a living writer's or has been removed.
    fn opened(&mut self, leftovers: &[Place]) -> Result<()> {
        let about = self.layout.about();
        for finding in &mut self.report.findings {
            let named = |place: &Place| Path::new(&finding.place) == place.below();
            if named(&about) {
                finding.repaired = self.repair;
            } else if let Some(place) = leftovers.iter().find(|place| named(place)) {
                finding.repaired = !files::exists(place)?;
            }
        }
        Ok(())
    }

    /// Whom the secret files let in. A repair is done only in an opened vault.
    fn modes(&mut self) -> Result<()> {
        let private = [
            (self.layout.folder.here(), 0o700),
            (self.layout.epoch_key(), 0o600),
            (self.layout.keystore(), 0o600),
        ];
        for (path, wanted) in private {
            let Ok(about) = path.stat() else {
                continue;
            };
            let mode = about.mode;
            let others = mode & 0o077;
            if others == 0 || matches!(about.kind, Kind::Other(_)) {
                continue;
            }
            let damage = format!("open to others (mode {mode:o})");
            let action = format!("chmod {wanted:o}");
            if self.report.opened {
                self.find(Severity::Note, &path, None, damage, action, |_| {
                    path.chmod(wanted).map_err(VaultError::io("chmod", &path))
                })?;
            } else {
                self.tell(Severity::Note, &path, None, damage, action);
            }
        }
        Ok(())
    }

    /// Opens the vault, past intents that cannot be carried out.
    fn open(
        &mut self,
        provider: &Provider,
        options: FsckOptions,
        rebuild: bool,
    ) -> Result<Option<(Vault, VaultLock)>> {
        loop {
            let opening = Opening {
                accept_older: options.accept_older_keystore,
                rebuild,
                ..Opening::default()
            };
            let error = match opening.open(&self.layout, provider) {
                Ok(opened) => return Ok(Some(opened)),
                Err(
                    error @ (VaultError::WrongKey { .. }
                    | VaultError::WrongProvider { .. }
                    | VaultError::WrongKeyLength { .. }
                    | VaultError::ProviderError { .. }
                    | VaultError::VaultDestroyed { .. }
                    | VaultError::ReadOnly { .. }
                    | VaultError::Locked { .. }),
                ) => return Err(error),
                Err(error) => error,
            };
            if let VaultError::IntentForged { path } = &error {
                // By its name in the journal; the keystore was opened, else it would not have been judged.
                let name = path.file_name().unwrap_or_default();
                let path = self.layout.journal().join(name);
                self.find(
                    Severity::Damage,
                    &path,
                    None,
                    "damaged or forged: what it asks for was not done",
                    "move it to lost+found; shred the object again if that was wanted",
                    |layout| set_aside_locked(layout, &path),
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
                _ => self.layout.folder.here(),
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
        for entry in tree(&self.layout.objects())? {
            let path = entry.place;
            let name = entry.name.to_string_lossy();
            let (stem, tmp) = match name.strip_suffix(".enc.tmp") {
                Some(stem) => (stem, true),
                None => (name.strip_suffix(".enc").unwrap_or_default(), false),
            };
            let Ok(id) = stem.parse::<Uuid>() else {
                // What desktops and copying tools leave: no ciphertext of ours.
                self.tell(
                    Severity::Notice,
                    &path,
                    None,
                    "no object has such a file; the vault does not use it",
                    "remove it if you do not know it",
                );
                continue;
            };
            if tmp && (writing.contains(&id) || files::exists(&self.layout.store_intent(id))?) {
                continue; // its writer lives: dead ones were rolled back
            }
            if tmp && !files::exists(&path)? {
                continue; // its writer gave it up since the folder was listed: the file goes before the intent
            }
            let known = exclusive.entry(id);
            let in_place = self.layout.object(id) == path;
            match known {
                // Whatever lies there was looked at beside its record.
                Some(Known::Live(_)) if !tmp && in_place => {}
                Some(Known::Shredded { .. }) => self.find(
                    Severity::Note,
                    &path,
                    Some(id),
                    "the ciphertext of a shredded object: its key is gone",
                    "remove it",
                    |_| files::remove(&path).map(drop),
                )?,
                _ if tmp => self.find(
                    Severity::Note,
                    &path,
                    Some(id),
                    "left over from an interrupted store",
                    "remove it",
                    |_| files::remove(&path).map(drop),
                )?,
                _ => self.find(
                    Severity::Damage,
                    &path,
                    Some(id),
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
    for entry in files::list(&layout.journal())? {
        let name = entry.name.to_string_lossy();
        if name.ends_with(".stores") && entry.kind == Kind::File {
            let bytes = files::read(&entry.place, recover::INTENT_MAX)?;
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

fn truncate(exclusive: &Exclusive<'_>, record: &Record, path: &Place) -> Result<()> {
    let len = ObjectFile::open(exclusive.inner, record)?.header.file_len();
    path.open_to_write()
        .and_then(|file| file.set_len(len).and_then(|()| file.sync_all()))
        .map_err(VaultError::io("truncate", path))
}

/// For what kept the vault from opening after its keystore had been opened.
fn set_aside_locked(layout: &Layout, path: &Place) -> Result<()> {
    let _held = lock::exclusive(&layout.lock(), Duration::from_millis(LOCK_WAIT_MS))?;
    if files::exists(path)? {
        set_aside(layout, path)?;
    }
    Ok(())
}

/// Moves a file to `lost+found/` under a name that is free.
fn set_aside(layout: &Layout, path: &Place) -> Result<()> {
    let folder = layout.folder.place("lost+found");
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

fn tree(folder: &Place) -> Result<Vec<Entry>> {
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
