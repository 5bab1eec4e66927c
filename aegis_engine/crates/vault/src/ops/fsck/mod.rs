//! The check of a whole vault folder: names each damage and what to do; repairs only what cannot lose anything.
//!
//! A repair never deletes what a key might still open: files that nobody knows go to `lost+found/`. What it removes is
//! left over from a crash (temporary files) or has no key any more (ciphertext of shredded objects).

mod mend;
mod report;

use std::collections::HashSet;
use std::path::Path;

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::{Entry as Known, KeyRecord};
use crate::format::paths::{About, Paths};
use crate::keys::provider::Provider;
use crate::object::file::ObjectFile;
use crate::ops::many;
use crate::ops::open::Opening;
use crate::ops::recover;
use crate::system::files::{self, Kind, Place};
use crate::system::lock::VaultLock;
use crate::vault::Exclusive;
use crate::vault::Vault;
use crate::vault::journal;
use crate::vault::state;
use crate::vault::trail;

use mend::{chunks_are_whole, set_aside, set_aside_locked, tree, truncate};
use report::Check;

pub use report::{Finding, FsckOptions, FsckReport, Severity};

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
            paths: Paths::open(path)?,
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
        check.unknown_files(&exclusive)?;
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

impl Check {
    /// `vault.json` can be rebuilt from the readable part of the keystore. Whether the opening is to do that.
    fn about(&mut self) -> Result<bool> {
        let damage = match About::read(&self.paths) {
            Ok(About {
                destroyed: Some(when),
                ..
            }) if !files::exists(&self.paths.destroy_intent())? => {
                return Err(VaultError::VaultDestroyed {
                    path: self.paths.root.clone(),
                    when,
                });
            }
            Ok(_) => return Ok(false),
            Err(VaultError::AboutDamaged { reason, .. }) => reason,
            Err(VaultError::NotAVault { .. }) if files::exists(&self.paths.keystore())? => {
                "it is missing".to_owned()
            }
            Err(error) => return Err(error),
        };
        state::peek(&self.paths)?;
        let path = self.paths.about();
        self.tell(Finding::at(
            Severity::Damage,
            &path,
            None,
            damage,
            "write it anew from the keystore",
        ));
        Ok(self.repair)
    }

    /// Temporary files of an interrupted replacement: the rename decides, so they are waste. Seen without a lock: a living
    /// writer's are taken back when the vault is open.
    fn leftovers(&mut self) -> Result<Vec<Place>> {
        let mut seen = Vec::new();
        for path in journal::leftovers(&self.paths) {
            if files::exists(&path)? {
                self.tell(Finding::at(
                    Severity::Note,
                    &path,
                    None,
                    "left over from an interrupted write",
                    "overwrite and remove it",
                ));
                seen.push(path);
            }
        }
        Ok(seen)
    }

    /// Opening a vault finishes what a crash interrupted, as a file system replays its journal: also without `repair`.
    /// Under the lock, what is gone was a living writer's or has been removed.
    fn opened(&mut self, leftovers: &[Place]) -> Result<()> {
        let about = self.paths.about();
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
            (self.paths.folder.here(), 0o700),
            (self.paths.epoch_key(), 0o600),
            (self.paths.keystore(), 0o600),
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
                self.find(
                    Finding::at(Severity::Note, &path, None, damage, action),
                    |_| path.chmod(wanted).map_err(VaultError::io("chmod", &path)),
                )?;
            } else {
                self.tell(Finding::at(Severity::Note, &path, None, damage, action));
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
            let error = match opening.open(&self.paths, provider) {
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
                let path = self.paths.journal().join(name);
                self.find(
                    Finding::at(
                        Severity::Damage,
                        &path,
                        None,
                        "damaged or forged: what it asks for was not done",
                        "move it to lost+found; shred the object again if that was wanted",
                    ),
                    |paths| set_aside_locked(paths, &path),
                )?;
                if self.repair {
                    continue;
                }
                return Ok(None);
            }
            let place = match &error {
                VaultError::KeyDestroyed { .. } => self.paths.epoch_key(),
                VaultError::AuditRollback { .. } | VaultError::Audit(_) => self.paths.audit(),
                VaultError::Policy(_) => self.paths.consent(),
                VaultError::KeystoreCorrupt { .. }
                | VaultError::KeystoreRollback { .. }
                | VaultError::KeystoreStale { .. } => self.paths.keystore(),
                _ => self.paths.folder.here(),
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
            self.tell(Finding::at(
                Severity::Damage,
                &place,
                None,
                error.to_string(),
                action,
            ));
            return Ok(None);
        }
    }

    fn audit(&mut self, vault: &Vault) {
        let folder = self.paths.audit();
        let origin = trail::origin(vault.id());
        if let Err(error) = aegis_audit::verify(&folder, Some(&origin), None) {
            self.tell(Finding::at(
                Severity::Damage,
                &folder,
                None,
                error.to_string(),
                "restore the audit folder from a backup",
            ));
            return;
        }
        if let Ok(forged @ 1..) = trail::forged(&self.paths, &vault.inner.known().body.node) {
            self.tell(Finding::at(Severity::Notice, &folder, None, format!("{forged} records about the keystore or the policy without a proof: the vault did not write them"), "they do not count; keep the log as evidence, and find out who can write to the folder"));
        }
    }

    /// Header, keys and size of every live object.
    fn records(&mut self, exclusive: &Exclusive<'_>) -> Result<()> {
        let inner = exclusive.inner;
        let state = exclusive.state();
        let records: Vec<&KeyRecord> = state.body.records().collect();
        for record in records {
            self.report.objects += 1;
            let path = self.paths.object(record.object);
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
                            Finding::at(
                                Severity::Damage,
                                &path,
                                id,
                                format!("{extra} bytes follow its end; every chunk is whole"),
                                "cut them off",
                            ),
                            |_| truncate(exclusive, record, &path),
                        )?;
                    } else {
                        self.tell(Finding::at(
                            Severity::Damage,
                            &path,
                            id,
                            error.to_string(),
                            "restore the file from a backup, or shred the object",
                        ));
                    }
                }
                _ => self.tell(Finding::at(
                    Severity::Damage,
                    &path,
                    id,
                    error.to_string(),
                    "restore the file from a backup, or shred the object",
                )),
            }
        }
        Ok(())
    }

    /// Files under `objects/` that no live record claims. The exclusive lock is held: no store is between its rename
    /// and its record.
    fn unknown_files(&mut self, exclusive: &Exclusive<'_>) -> Result<()> {
        let writing = written(&self.paths)?;
        for entry in tree(&self.paths.objects())? {
            let path = entry.place;
            let name = entry.name.to_string_lossy();
            let (stem, tmp) = match name.strip_suffix(".enc.tmp") {
                Some(stem) => (stem, true),
                None => (name.strip_suffix(".enc").unwrap_or_default(), false),
            };
            let Ok(id) = stem.parse::<Uuid>() else {
                // What desktops and copying tools leave: no ciphertext of ours.
                self.tell(Finding::at(
                    Severity::Notice,
                    &path,
                    None,
                    "no object has such a file; the vault does not use it",
                    "remove it if you do not know it",
                ));
                continue;
            };
            if tmp && (writing.contains(&id) || files::exists(&self.paths.store_intent(id))?) {
                continue; // its writer lives: dead ones were rolled back
            }
            if tmp && !files::exists(&path)? {
                continue; // its writer gave it up since the folder was listed: the file goes before the intent
            }
            let known = exclusive.entry(id);
            let in_place = self.paths.object(id) == path;
            match known {
                // Whatever lies there was looked at beside its record.
                Some(Known::Live(_)) if !tmp && in_place => {}
                Some(Known::Shredded { .. }) => self.find(
                    Finding::at(
                        Severity::Note,
                        &path,
                        Some(id),
                        "the ciphertext of a shredded object: its key is gone",
                        "remove it",
                    ),
                    |_| files::remove(&path).map(drop),
                )?,
                _ if tmp => self.find(
                    Finding::at(
                        Severity::Note,
                        &path,
                        Some(id),
                        "left over from an interrupted store",
                        "remove it",
                    ),
                    |_| files::remove(&path).map(drop),
                )?,
                _ => self.find(
                    Finding::at(
                        Severity::Damage,
                        &path,
                        Some(id),
                        "no key record claims this file",
                        "move it to lost+found; a keystore backup may know it",
                    ),
                    |paths| set_aside(paths, &path),
                )?,
            }
        }
        Ok(())
    }
}

/// Objects of the stores of many that are under way.
fn written(paths: &Paths) -> Result<HashSet<Uuid>> {
    let mut all = HashSet::new();
    for entry in files::list(&paths.journal())? {
        let name = entry.name.to_string_lossy();
        if name.ends_with(".stores") && entry.kind == Kind::File {
            let bytes = files::read(&entry.place, recover::INTENT_MAX)?;
            all.extend(many::ids(&bytes).unwrap_or_default());
        }
    }
    Ok(all)
}
