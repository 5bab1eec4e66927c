//! A vault's own copy of the policies it is under, and the way back from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aegis_folder::Place;

use super::text::Bundle;
use crate::error::PolicyError;

/// Why the policies were not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The copy is no bundle.
    #[error(transparent)]
    Bundle(#[from] PolicyError),
    /// The copy is another bundle.
    #[error("{} changed while it was copied; govern the vault again", from.display())]
    Changed {
        /// Where they were copied from.
        from: PathBuf,
    },
}

impl Bundle {
    /// `core`, or a folder with `schema.cedarschema` and policies.
    pub fn named(name: &str) -> Result<Self, PolicyError> {
        if name == "core" {
            Ok(Self::core())
        } else {
            Self::load(Path::new(name))
        }
    }

    /// Copies this bundle's files from the folder `from` into `kept`, and reads the copy back. The hash in the keystore says
    /// later whether they are the right ones.
    ///
    /// # Errors
    /// [`KeepError::Changed`] when the files are not those of this bundle any more.
    pub fn keep(&self, from: &Path, kept: &Place) -> Result<(), KeepError> {
        let ours = |path: &Path| {
            path.extension()
                .is_some_and(|e| e == "cedar" || e == "cedarschema")
        };
        kept.mkdir()?;
        // What a bundle that was replaced left there.
        for entry in kept.list()? {
            if ours(Path::new(&entry.name)) && !from.join(&entry.name).exists() {
                entry.place.unlink()?;
            }
        }
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            if ours(&path)
                && let Some(name) = path.file_name()
            {
                kept.join(name).replace(&fs::read(&path)?)?;
            }
        }
        if Self::load_kept(kept)?.hash() != self.hash() {
            return Err(KeepError::Changed {
                from: from.to_owned(),
            });
        }
        Ok(())
    }

    /// The bundle with this hash: the core one, or the one that was kept there. `None` when another one lies there.
    pub fn pinned(hash: [u8; 32], kept: &Place) -> Result<Option<Self>, PolicyError> {
        let core = Self::core();
        let found = if core.hash() == hash {
            core
        } else {
            Self::load_kept(kept)?
        };
        Ok((found.hash() == hash).then_some(found))
    }
}
