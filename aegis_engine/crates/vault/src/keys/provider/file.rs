//! A key from a file, a descriptor or the environment.

use std::fs::File;
use std::io::Read;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{KeyProvider, Kind, Provider, parse_key, refuse};
use crate::error::Result;
use crate::secret::Secret;

impl Provider {
    /// A file of mode 0600 (or stricter) with 32 raw bytes, or 64 hex digits and an optional newline.
    pub fn key_file(path: impl Into<PathBuf>) -> Self {
        Self::new(KeyFile(path.into()))
    }

    /// A key in the form of a key file, read from an open descriptor such as a pipe. The descriptor stays open.
    pub fn descriptor(fd: RawFd) -> Self {
        Self::new(Descriptor(fd))
    }

    /// A key in the form of a key file (64 hex digits), in an environment variable. Other processes of the same user
    /// can read it there: prefer a descriptor.
    pub fn environment(name: impl Into<String>) -> Self {
        Self::new(Environment(name.into()))
    }
}

#[derive(Debug)]
struct KeyFile(PathBuf);

impl KeyProvider for KeyFile {
    fn kind(&self) -> Kind {
        Kind::Key
    }

    fn key(&self, _params: &[u8]) -> Result<Secret<32>> {
        let name = self.0.display();
        let file = File::open(&self.0).map_err(|e| {
            refuse(format!(
                "cannot open key file {name}: {e}; correct the path"
            ))
        })?;
        let about = file
            .metadata()
            .map_err(|e| refuse(format!("cannot read key file {name}: {e}")))?;
        let mode = about.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(refuse(format!(
                "key file {name} is open to others (mode {mode:o}); run chmod 600 {name}"
            )));
        }
        let longest = usize::try_from(about.len()).unwrap_or(usize::MAX);
        read_key(&file, longest, &format!("key file {name}"))
    }
}

#[derive(Debug)]
struct Descriptor(RawFd);

impl KeyProvider for Descriptor {
    fn kind(&self) -> Kind {
        Kind::Key
    }

    fn key(&self, _params: &[u8]) -> Result<Secret<32>> {
        let what = format!("file descriptor {}", self.0);
        // Opened anew through /proc: the number is the caller's, and nobody vouches for it.
        let file = File::open(format!("/proc/self/fd/{}", self.0))
            .map_err(|e| refuse(format!("{what} cannot be read: {e}; open it for reading")))?;
        read_key(&file, 0, &what)
    }
}

#[derive(Debug)]
struct Environment(String);

impl KeyProvider for Environment {
    fn kind(&self) -> Kind {
        Kind::Key
    }

    fn key(&self, _params: &[u8]) -> Result<Secret<32>> {
        let name = &self.0;
        let value = std::env::var_os(name).ok_or_else(|| {
            refuse(format!(
                "environment variable {name} is not set; set it to the key as 64 hex digits"
            ))
        })?;
        let value = Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(value));
        parse_key(&value, value.len(), &format!("environment variable {name}"))
    }
}

fn read_key(mut file: &File, longest: usize, what: &str) -> Result<Secret<32>> {
    // A fixed buffer: growth would leave copies of the key behind.
    let mut buffer = Zeroizing::new([0u8; 67]);
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(refuse(format!("cannot read {what}: {e}"))),
        }
    }
    parse_key(&buffer[..len], len.max(longest), what)
}
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    use crate::VaultError;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, Provider) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, Provider::key_file(path))
    }

    #[test]
    fn raw_and_hex_key_files_give_the_same_key() {
        let hex = crate::vault::hex(&(0..32).collect::<Vec<u8>>());
        let raw: Vec<u8> = (0..32).collect();
        let (_a, raw) = file(&raw, 0o600);
        let (_b, hex_newline) = file(format!("{hex}\n").as_bytes(), 0o400);
        assert_eq!(raw.key(&[]).unwrap(), hex_newline.key(&[]).unwrap());
    }

    #[test]
    fn a_key_file_open_to_others_is_refused_with_the_remedy() {
        let (_d, provider) = file(&[1; 32], 0o640);
        let text = provider.key(&[]).unwrap_err().to_string();
        assert!(text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn a_key_file_of_another_length_is_told_apart_from_one_that_is_not_hex() {
        let (_d, short) = file(&[1; 31], 0o600);
        assert!(matches!(
            short.key(&[]),
            Err(VaultError::WrongKeyLength {
                expected: 32,
                found: 31
            })
        ));
        let (_d, long) = file(&[1; 500], 0o600);
        assert!(matches!(
            long.key(&[]),
            Err(VaultError::WrongKeyLength { found: 500, .. })
        ));
        let (_d, text) = file(&[b'z'; 64], 0o600);
        assert!(matches!(
            text.key(&[]),
            Err(VaultError::ProviderError { .. })
        ));
    }
}
