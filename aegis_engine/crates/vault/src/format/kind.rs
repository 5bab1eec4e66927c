//! What a key provider is, as the keystore and `vault.json` store it.

/// What a provider is, as stored in the keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32 bytes from anywhere: providers of this kind are exchangeable.
    Key,
    /// A passphrase and its Argon2id parameters.
    Passphrase,
    /// A PKCS#11 token.
    Pkcs11,
    /// A key management service.
    Kms,
}

impl Kind {
    pub(crate) fn id(self) -> u16 {
        match self {
            Self::Key => 1,
            Self::Passphrase => 2,
            Self::Pkcs11 => 3,
            Self::Kms => 4,
        }
    }

    pub(crate) fn of(id: u16) -> Option<Self> {
        [Self::Key, Self::Passphrase, Self::Pkcs11, Self::Kms]
            .into_iter()
            .find(|kind| kind.id() == id)
    }

    /// The name in `vault.json` and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Passphrase => "passphrase",
            Self::Pkcs11 => "pkcs11",
            Self::Kms => "kms",
        }
    }
}

/// Longest stored parameters.
pub(crate) const PARAMS_MAX: usize = 1024;
