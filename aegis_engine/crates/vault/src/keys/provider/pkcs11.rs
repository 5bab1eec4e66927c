//! A PKCS#11 token (OASIS PKCS#11 v2.40): wraps the secret of each epoch under a key of its own that never leaves the
//! token, and destroys that key at the ratchet.
//!
//! The key of an epoch is a non-extractable AES-256 token object labelled `aegis/<vault id>/<epoch>`. The blob in
//! `epoch.key` is `iv 12 ‖ ciphertext 32 ‖ tag 16` of AES-256-GCM, AAD = vault id ‖ u64 epoch (little-endian). Whether
//! destroying an object destroys its bits is the token's promise: `SoftHSM` keeps objects in files.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Context};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Destroyed, KeyProvider, Kind, refuse};
use crate::error::{Result, VaultError};
use crate::level::Level;
use crate::secret::{self, Secret};

const IV: usize = 12;
const TAG: usize = 16;

/// A module (shared library) can be initialised once a process.
static CONTEXTS: Mutex<Vec<(PathBuf, Context)>> = Mutex::new(Vec::new());

/// A token of a PKCS#11 module.
pub struct Pkcs11 {
    module: PathBuf,
    token: String,
    pin: Zeroizing<String>,
}

impl std::fmt::Debug for Pkcs11 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11")
            .field("module", &self.module)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl Pkcs11 {
    /// The token labelled `token` of the module at `module`, with the user's PIN.
    pub fn new(module: PathBuf, token: String, pin: Zeroizing<String>) -> Self {
        Self { module, token, pin }
    }

    fn failed(&self, what: &'static str) -> impl Fn(Error) -> VaultError {
        let token = self.token.clone();
        move |error| match error {
            Error::Pkcs11(RvError::PinIncorrect | RvError::PinLocked, _) => refuse(format!(
                "PKCS#11 token {token:?} refuses the PIN; give the right one before it locks"
            )),
            error => refuse(format!("PKCS#11 token {token:?}, {what}: {error}")),
        }
    }

    fn context(&self) -> Result<Context> {
        let mut all = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.iter().find(|(path, _)| *path == self.module) {
            return Ok(known.clone());
        }
        let context = Context::new(&self.module).map_err(|e| {
            refuse(format!(
                "PKCS#11 module {} cannot be loaded: {e}; give the path of the token's library",
                self.module.display()
            ))
        })?;
        let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match context.initialize(threads) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(self.failed("initialise")(error)),
        }
        all.push((self.module.clone(), context.clone()));
        Ok(context)
    }

    fn session(&self) -> Result<Session> {
        let context = self.context()?;
        let slots = context
            .get_slots_with_initialized_token()
            .map_err(self.failed("list"))?;
        let named = slots.into_iter().find(|slot| {
            context
                .get_token_info(*slot)
                .is_ok_and(|info| info.label().trim_end() == self.token)
        });
        let slot = named.ok_or_else(|| {
            refuse(format!(
                "PKCS#11 module {} has no token labelled {:?}; list its tokens and correct the label",
                self.module.display(),
                self.token
            ))
        })?;
        let session = context
            .open_rw_session(slot)
            .map_err(self.failed("open a session"))?;
        let pin = AuthPin::new(self.pin.as_str().into());
        match session.login(UserType::User, Some(&pin)) {
            // Another session of this process is logged in, which covers this one.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(self.failed("log in")(error)),
        }
    }

    fn label(vault: Uuid, epoch: u64) -> Attribute {
        Attribute::Label(format!("aegis/{vault}/{epoch}").into_bytes())
    }

    fn find(&self, session: &Session, vault: Uuid, epoch: u64) -> Result<Vec<ObjectHandle>> {
        session
            .find_objects(&[
                Attribute::Class(ObjectClass::SECRET_KEY),
                Self::label(vault, epoch),
            ])
            .map_err(self.failed("find the epoch's key"))
    }
}

fn aad(vault: Uuid, epoch: u64) -> [u8; 24] {
    let mut out = [0; 24];
    out[..16].copy_from_slice(vault.as_bytes());
    out[16..].copy_from_slice(&epoch.to_le_bytes());
    out
}

impl KeyProvider for Pkcs11 {
    fn kind(&self) -> Kind {
        Kind::Pkcs11
    }

    fn level(&self) -> Level {
        Level::Hardware
    }

    /// Zeros: the token's part is the epoch secret.
    fn key(&self, _params: &[u8]) -> Result<Secret<32>> {
        self.session()?;
        Ok(Secret::write(|_| ()))
    }

    fn wrap(&self, vault: Uuid, epoch: u64, secret: &Secret<32>) -> Result<Zeroizing<Vec<u8>>> {
        let session = self.session()?;
        // What an interrupted ratchet left is of no use.
        for old in self.find(&session, vault, epoch)? {
            session
                .destroy_object(old)
                .map_err(self.failed("destroy"))?;
        }
        let template = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::ValueLen(32.into()),
            Self::label(vault, epoch),
        ];
        let key = session
            .generate_key(&Mechanism::AesKeyGen, &template)
            .map_err(self.failed("make a key"))?;
        let (mut iv, aad) = (secret::random::<IV>()?, aad(vault, epoch));
        let mut out = Zeroizing::new(iv.to_vec());
        let params =
            GcmParams::new(&mut iv, &aad, (8 * TAG as u64).into()).map_err(self.failed("wrap"))?;
        let sealed = session
            .encrypt(&Mechanism::AesGcm(params), key, secret.expose())
            .map_err(self.failed("wrap"))?;
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    fn unwrap(&self, vault: Uuid, epoch: u64, blob: &[u8]) -> Result<Secret<32>> {
        let session = self.session()?;
        let Some(key) = self.find(&session, vault, epoch)?.into_iter().next() else {
            let reason = format!("token {:?} has no key of epoch {epoch}", self.token);
            return Err(VaultError::KeyDestroyed { reason });
        };
        if blob.len() != IV + 32 + TAG {
            return Err(refuse("the wrapped epoch secret has another length"));
        }
        let mut iv = [0; IV];
        iv.copy_from_slice(&blob[..IV]);
        let aad = aad(vault, epoch);
        let params = GcmParams::new(&mut iv, &aad, (8 * TAG as u64).into())
            .map_err(self.failed("unwrap"))?;
        let plain = session
            .decrypt(&Mechanism::AesGcm(params), key, &blob[IV..])
            .map(Zeroizing::new)
            .map_err(self.failed("unwrap"))?;
        Secret::from_slice(&plain)
    }

    fn destroy(&self, vault: Uuid, epoch: u64) -> Result<Destroyed> {
        let session = self.session()?;
        for key in self.find(&session, vault, epoch)? {
            session
                .destroy_object(key)
                .map_err(self.failed("destroy"))?;
        }
        let note = format!(
            "PKCS#11 token {:?} says that it destroyed its key of epoch {epoch}",
            self.token
        );
        Ok(Destroyed { note: Some(note) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::{Meta, Provider, Vault};

    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

    /// A token of `SoftHSM` in a folder of its own. One test a process: the module reads its configuration once.
    fn token() -> Option<tempfile::TempDir> {
        if !std::path::Path::new(MODULE).exists() {
            eprintln!("SoftHSM is not installed (Debian: softhsm2): nothing was tested");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("softhsm2.conf");
        fs::create_dir(dir.path().join("tokens")).unwrap();
        fs::write(
            &config,
            format!("directories.tokendir = {}/tokens\n", dir.path().display()),
        )
        .unwrap();
        #[allow(unsafe_code)]
        // SAFETY: set before the module is loaded; the only other test of this binary that reads the environment reads
        // variables of its own.
        unsafe {
            std::env::set_var("SOFTHSM2_CONF", &config);
        }
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "aegis test"])
            .args(["--pin", "1234", "--so-pin", "5678"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Some(dir)
    }

    fn provider(pin: &str) -> Provider {
        let pin = Zeroizing::new(pin.to_owned());
        Provider::new(Pkcs11::new(MODULE.into(), "aegis test".into(), pin))
    }

    #[test]
    fn a_token_keeps_the_epoch_and_destroys_it_at_a_shred() {
        let Some(dir) = token() else { return };
        let path = dir.path().join("v");
        let wrong = Vault::create(&path, &provider("0000")).unwrap_err();
        assert!(wrong.to_string().contains("PIN"), "{wrong}");
        let vault = Vault::create(&path, &provider("1234")).unwrap();
        let gone = vault.store_bytes(b"gone", Meta::named("n")).unwrap();
        let kept = vault.store_bytes(b"kept", Meta::named("n")).unwrap();
        drop(vault);
        let vault = Vault::open(&path, &provider("1234")).unwrap();
        let copy = dir.path().join("copy");
        crate::tests::copy_tree(&path, &copy);
        let receipt = vault.shred(gone, Some(Level::Hardware)).unwrap();
        assert_eq!(receipt.level, Level::Hardware);
        assert!(
            receipt.caveats.iter().any(|c| c.contains("epoch 1")),
            "{:?}",
            receipt.caveats
        );
        // The whole old folder, epoch.key included, with the token and its PIN: the token's key is gone.
        assert!(matches!(
            Vault::open(&copy, &provider("1234")),
            Err(VaultError::KeyDestroyed { .. })
        ));
        drop(vault);
        let vault = Vault::open(&path, &provider("1234")).unwrap();
        assert_eq!(crate::tests::load(&vault, kept).unwrap(), b"kept");
        // Away from the token: an ordinary key again.
        let raw = Provider::raw(&[9; 32]).unwrap();
        vault.rotate(Some(&raw)).unwrap();
        assert!(matches!(
            Vault::open(&path, &provider("1234")),
            Err(VaultError::WrongProvider { .. })
        ));
        let vault = Vault::open(&path, &raw).unwrap();
        assert_eq!(crate::tests::load(&vault, kept).unwrap(), b"kept");
    }
}
