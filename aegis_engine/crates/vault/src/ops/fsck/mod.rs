//! The check of a whole vault folder: names each damage and what to do; repairs only what cannot lose anything.
//!
//! A repair never deletes what a key might still open: files that nobody knows go to `lost+found/`. What it removes is
//! left over from a crash (temporary files) or has no key any more (ciphertext of shredded objects).

mod aside;
mod objects;
pub(crate) mod report;

use std::path::Path;

use aegis_audit::Event;
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::layout::{About, Layout};
use crate::ops::fsck::aside::set_aside_locked;
use crate::ops::fsck::report::{Finding, FsckOptions, FsckReport, Severity};
use crate::ops::open::Opening;
use crate::ops::recover;
use crate::provider::Provider;
use crate::system::files::{self, Kind, Place};
use crate::system::lock::VaultLock;
use crate::vault::Vault;
use crate::vault::state;
use crate::vault::trail;

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
}
