//! Objects, and files that no keystore names.

use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::{Entry as Known, Record};
use crate::object::file::ObjectFile;
use crate::ops::fsck::Check;
use crate::ops::fsck::aside::{chunks_are_whole, set_aside, tree, truncate, written};
use crate::ops::fsck::report::Severity;
use crate::system::files::{self};
use crate::vault::exclusive::Exclusive;

impl Check {
    /// Header, keys and size of every live object.
    pub(super) fn records(&mut self, exclusive: &Exclusive<'_>) -> Result<()> {
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
    pub(super) fn strangers(&mut self, exclusive: &Exclusive<'_>) -> Result<()> {
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
