//! Where the 32-byte key comes from, and the root it makes together with the epoch secret.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
use crate::kdf::Prk;
use crate::receipt::Level;
use crate::secret::Secret;

/// A source of the vault's key.
#[derive(Debug)]
pub enum Provider {
    /// The key itself.
    Raw(Secret<32>),
    /// A file of mode 0600 (or stricter) with 32 raw bytes, or 64 hex digits and an optional newline.
    KeyFile(PathBuf),
}

impl Provider {
    /// Copies exactly 32 key bytes.
    pub fn raw(key: &[u8]) -> Result<Self> {
        Secret::from_slice(key).map(Self::Raw)
    }

    /// Number stored in the keystore, for `doctor`.
    pub(crate) fn id(&self) -> u16 {
        match self {
            Self::Raw(_) => 1,
            Self::KeyFile(_) => 2,
        }
    }

    /// The strongest shred: both providers keep the epoch secret in a file.
    pub(crate) fn level() -> Level {
        Level::RatchetedFile
    }

    /// The key; asked once an open.
    pub(crate) fn key(&self) -> Result<Secret<32>> {
        match self {
            Self::Raw(key) => Ok(key.duplicate()),
            Self::KeyFile(path) => read_key(path),
        }
    }
}

fn read_key(path: &std::path::Path) -> Result<Secret<32>> {
    let name = path.display();
    let refuse = |reason: String| VaultError::ProviderError { reason };
    let mut file = File::open(path).map_err(|e| {
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
    // A fixed buffer: growth would leave copies of the key behind.
    let mut buffer = Zeroizing::new([0u8; 67]);
    let mut len = 0;
    while len < buffer.len() {
        match file
            .read(&mut buffer[len..])
            .map_err(|e| refuse(format!("cannot read key file {name}: {e}")))?
        {
            0 => break,
            n => len += n,
        }
    }
    let found = if len == buffer.len() {
        usize::try_from(about.len()).unwrap_or(len)
    } else {
        len
    };
    if len == 32 {
        return Secret::from_slice(&buffer[..32]);
    }
    let text = &buffer[..len];
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() != 64 {
        return Err(VaultError::WrongKeyLength {
            expected: 32,
            found,
        });
    }
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    Secret::try_write(|out| {
        for (byte, pair) in out.iter_mut().zip(text.as_chunks::<2>().0) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(refuse(format!(
                    "key file {name} has 64 characters that are not all hex digits; rewrite it"
                )));
            };
            *byte = high << 4 | low;
        }
        Ok(())
    })
}

/// Tells a wrong key from a damaged keystore before anything is opened.
pub(crate) fn key_check(vault: Uuid, key: &Secret<32>) -> Result<[u8; 32]> {
    Prk::extract(vault.as_bytes(), key.expose()).commitment(&[b"aegis/v1/provider-check"])
}

/// The root of one epoch: neither the key nor the epoch secret opens anything alone.
pub(crate) fn root(
    vault: Uuid,
    key: &Secret<32>,
    epoch: u64,
    epoch_secret: &Secret<32>,
) -> Result<Secret<32>> {
    let both = Secret::<64>::write(|out| {
        out[..32].copy_from_slice(key.expose());
        out[32..].copy_from_slice(epoch_secret.expose());
    });
    Prk::extract(vault.as_bytes(), both.expose()).expand(&[b"aegis/v1/root", &epoch.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, Provider) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, Provider::KeyFile(path))
    }

    #[test]
    fn raw_and_hex_key_files_give_the_same_key() {
        let hex = crate::vault::hex(&(0..32).collect::<Vec<u8>>());
        let raw: Vec<u8> = (0..32).collect();
        let (_a, raw) = file(&raw, 0o600);
        let (_b, hex_newline) = file(format!("{hex}\n").as_bytes(), 0o400);
        assert_eq!(raw.key().unwrap(), hex_newline.key().unwrap());
    }

    #[test]
    fn a_key_file_open_to_others_is_refused_with_the_remedy() {
        let (_d, provider) = file(&[1; 32], 0o640);
        let text = provider.key().unwrap_err().to_string();
        assert!(text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn a_key_file_of_another_length_is_told_apart_from_one_that_is_not_hex() {
        let (_d, short) = file(&[1; 31], 0o600);
        assert!(matches!(
            short.key(),
            Err(VaultError::WrongKeyLength {
                expected: 32,
                found: 31
            })
        ));
        let (_d, long) = file(&[1; 500], 0o600);
        assert!(matches!(
            long.key(),
            Err(VaultError::WrongKeyLength { found: 500, .. })
        ));
        let (_d, text) = file(&[b'z'; 64], 0o600);
        assert!(matches!(text.key(), Err(VaultError::ProviderError { .. })));
    }
}
