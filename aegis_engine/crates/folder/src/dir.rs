//! A folder by path or by place.

use std::io;
use std::path::{Path, PathBuf};

use crate::place::Place;
use crate::root::Folder;

/// A folder by path or by place: what a log lies in.
pub trait AsDir {
    /// Opened; with `create`, made when there is none.
    fn dir(&self, create: bool) -> io::Result<Place>;
    /// For messages.
    fn label(&self) -> &Path;
}

impl AsDir for Path {
    fn dir(&self, create: bool) -> io::Result<Place> {
        let opened = if create {
            Folder::open_or_create(self)
        } else {
            Folder::open(self)
        };
        opened.map(|folder| folder.here())
    }
    fn label(&self) -> &Path {
        self
    }
}

impl AsDir for PathBuf {
    fn dir(&self, create: bool) -> io::Result<Place> {
        self.as_path().dir(create)
    }
    fn label(&self) -> &Path {
        self
    }
}

impl AsDir for Place {
    fn dir(&self, create: bool) -> io::Result<Place> {
        if create && self.mkdir()? {
            self.sync_parent()?;
        }
        self.check_dir()?;
        Ok(self.clone())
    }
    fn label(&self) -> &Path {
        self.path()
    }
}
