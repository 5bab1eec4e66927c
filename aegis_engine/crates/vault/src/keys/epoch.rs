//! `epoch.key`: the secret that makes shredding real. Replaced at every ratchet; never back it up.
//!
//! ```text
//! 0 magic "AEGISEPK" | 8 u64 epoch | 16 vault id 16 | 32 u16 provider kind, u16 zero | 36 u32 length ≤ 4096
//! 40 the secret as the provider wraps it: 32 plain bytes, or what a token or key service made of them    (mode 0600)
//! ```
//! A ratchet writes `epoch.key.next`, then the keystore of the new epoch, then destroys the old secret and renames
//! `.next` over it. The epoch in the keystore decides what a crash left: see [`settle`].

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
use crate::format::paths::Paths;
use crate::keys::provider::{BLOB_MAX, Destroyed, Kind, Provider};
use crate::secret::Secret;
use crate::system::failpoint;
use crate::system::files::{self, Place};

const MAGIC: &[u8; 8] = b"AEGISEPK";
const FIXED: usize = 40;

/// The secret of one epoch.
pub(crate) struct EpochKey {
    pub epoch: u64,
    pub secret: Secret<32>,
}

/// The file, parsed.
pub(crate) struct Wrapped {
    epoch: u64,
    kind: Kind,
    blob: Zeroizing<Vec<u8>>,
}

impl Wrapped {
    /// `None` when the file is missing, torn, overwritten or of another vault.
    fn read(path: &Place, vault: Uuid) -> Option<Self> {
        let bytes = Zeroizing::new(files::read(path, (FIXED + BLOB_MAX) as u64).ok()?);
        Self::decode(&bytes, vault)
    }

    pub fn decode(bytes: &[u8], vault: Uuid) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let rest = rest.strip_prefix(vault.as_bytes())?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let rest = rest.strip_prefix(&[0, 0])?;
        let (len, blob) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*len) as usize != blob.len() || blob.len() > BLOB_MAX {
            return None;
        }
        Some(Self {
            epoch: u64::from_le_bytes(*epoch),
            kind: Kind::of(u16::from_le_bytes(*kind))?,
            blob: Zeroizing::new(blob.to_vec()),
        })
    }
}

impl EpochKey {
    pub fn random(epoch: u64) -> Result<Self> {
        Ok(Self {
            epoch,
            secret: Secret::random()?,
        })
    }

    fn encode(&self, vault: Uuid, provider: &Provider) -> Result<Zeroizing<Vec<u8>>> {
        let blob = provider.wrap(vault, self.epoch, &self.secret)?;
        if blob.len() > BLOB_MAX {
            let reason = format!(
                "the provider wrapped the epoch secret into {} bytes, at most {BLOB_MAX} are stored",
                blob.len()
            );
            return Err(VaultError::ProviderError { reason });
        }
        let mut out = Zeroizing::new(Vec::with_capacity(FIXED + blob.len()));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(vault.as_bytes());
        out.extend_from_slice(&provider.kind().id().to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u32::try_from(blob.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&blob);
        Ok(out)
    }

    /// The secret of a new vault.
    pub fn write_first(&self, paths: &Paths, vault: Uuid, provider: &Provider) -> Result<()> {
        files::replace(&paths.epoch_key(), &self.encode(vault, provider)?)
    }

    /// Step 1 of a ratchet: the new secret, durable beside the old one.
    pub fn write_next(&self, paths: &Paths, vault: Uuid, provider: &Provider) -> Result<()> {
        files::write_synced(&paths.epoch_next(), &self.encode(vault, provider)?)?;
        files::sync_parent(&paths.epoch_next())
    }
}

/// Step 3 of a ratchet: destroys the secret of the epoch before `epoch` and puts the new one in its place. `old` held
/// the previous epoch; another provider after a rotation.
pub(crate) fn promote(paths: &Paths, vault: Uuid, epoch: u64, old: &Provider) -> Result<Destroyed> {
    let gone = old.destroy(vault, epoch - 1)?;
    failpoint::point("ratchet.destroyed")?;
    files::overwrite(&paths.epoch_key())?;
    failpoint::point("ratchet.overwritten")?;
    files::rename(&paths.epoch_next(), &paths.epoch_key())?;
    Ok(gone)
}

/// The secret of `epoch` by the files as they are; `Err` when neither file has it.
pub(crate) fn current(
    paths: &Paths,
    vault: Uuid,
    epoch: u64,
    provider: &Provider,
) -> Result<EpochKey> {
    for path in [paths.epoch_key(), paths.epoch_next()] {
        if let Some(found) = Wrapped::read(&path, vault).filter(|found| found.epoch == epoch) {
            if found.kind != provider.kind() {
                return Err(VaultError::WrongProvider {
                    needed: found.kind.name(),
                    given: provider.kind().name(),
                });
            }
            let secret = provider.unwrap(vault, epoch, &found.blob)?;
            return Ok(EpochKey { epoch, secret });
        }
    }
    let reason = match Wrapped::read(&paths.epoch_key(), vault) {
        Some(found) => format!(
            "keystore.akv is of epoch {epoch}, epoch.key of epoch {}",
            found.epoch
        ),
        None => "epoch.key is missing or damaged".to_owned(),
    };
    Err(VaultError::KeyDestroyed { reason })
}

/// Whether any epoch secret of this vault is still readable as one.
pub(crate) fn any_left(paths: &Paths, vault: Uuid) -> bool {
    [paths.epoch_key(), paths.epoch_next()]
        .iter()
        .any(|path| Wrapped::read(path, vault).is_some())
}

/// Finishes or undoes what a crash in a ratchet left, given the epoch of the keystore. Needs the exclusive lock.
pub(crate) fn settle(paths: &Paths, vault: Uuid, epoch: u64, provider: &Provider) -> Result<()> {
    let next = paths.epoch_next();
    if !files::exists(&next)? {
        return Ok(());
    }
    let of_keystore =
        |path: &Place| Wrapped::read(path, vault).is_some_and(|found| found.epoch == epoch);
    if of_keystore(&next) {
        // The keystore is already the new one: go on. A token or service that a rotation left behind is not at hand
        // here: its old key stays if the crash came before `destroy`, and opens nothing, since epoch.key is overwritten.
        promote(paths, vault, epoch, provider).map(drop)
    } else if of_keystore(&paths.epoch_key()) {
        // The keystore is still the old one: the new secret never opened anything.
        if Wrapped::read(&next, vault).is_some_and(|found| found.kind == provider.kind()) {
            provider.destroy(vault, epoch + 1)?;
        }
        files::discard(&next).map(drop)
    } else {
        Err(VaultError::KeyDestroyed {
            reason: format!("no epoch secret of epoch {epoch} is left"),
        })
    }
}
