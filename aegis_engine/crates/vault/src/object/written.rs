//! An object as the vault itself reads it: what was just written, before it is anybody's to read, and what is written anew
//! within the vault. What is read goes into another object of the vault, or nowhere.

use crate::error::Result;
use crate::format::chunk::GcmKey;
use crate::format::header::Header;
use crate::object::file::ObjectFile;
use crate::object::keys::Resealer;
use crate::object::reader::Opened;
use crate::system::files::Place;

/// A complete file with the key it was sealed under.
pub(crate) struct Written {
    file: ObjectFile,
    content: GcmKey,
}

impl Written {
    pub fn open(path: &Place, header: &Header, content: GcmKey) -> Result<Self> {
        let file = ObjectFile::of_writer(path, header)?;
        file.check_size()?;
        Ok(Self { file, content })
    }

    /// An object that is written anew.
    pub fn anew(file: ObjectFile, keys: Resealer) -> Self {
        let content = keys.into_key();
        Self { file, content }
    }
}

impl Opened for Written {
    fn file(&self) -> &ObjectFile {
        &self.file
    }

    fn with_key<T>(&self, read: impl FnOnce(&GcmKey) -> Result<T>) -> Result<T> {
        read(&self.content)
    }
}
