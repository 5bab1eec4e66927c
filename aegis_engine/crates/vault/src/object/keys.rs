//! The key tree below the keystore body: subject key → object DEK → content, metadata, MAC keys and commitment.
//!
//! The unwrapped DEK never leaves this module. Its four ways out are the whole list of who may open what:
//! content needs a [`Witness`]; a [`Verifier`] authenticates and clears; governance rows are opened by the vault
//! itself; headers hold no training data.

use aegis_policy::Witness;
use uuid::Uuid;
use zeroize::Zeroize;

use crate::error::{Result, VaultError};
use crate::format::chunk::{self, GcmKey};
use crate::format::header::{HEADER, Header, MAC_AT};
use crate::format::keystore::{Body, KeyRecord, Kind, WRAPPED};
use crate::kdf::{self, Prk};
use crate::secret::{self, Secret};

/// What a wrapped DEK is bound to.
pub(crate) fn wrap_aad(vault: Uuid, key_record: Uuid, subject: [u8; 16], object: Uuid) -> [u8; 64] {
    let mut aad = [0; 64];
    aad[..16].copy_from_slice(vault.as_bytes());
    aad[16..32].copy_from_slice(key_record.as_bytes());
    aad[32..48].copy_from_slice(&subject);
    aad[48..].copy_from_slice(object.as_bytes());
    aad
}

/// Wraps a DEK under its subject's key. One random nonce an object: far below 2^32 under one subject key.
pub(crate) fn wrap(
    subject_key: &Secret<32>,
    aad: &[u8],
    dek: &Secret<32>,
) -> Result<[u8; WRAPPED]> {
    let nonce = secret::random::<12>()?;
    let mut out = [0; WRAPPED];
    out[..12].copy_from_slice(&nonce);
    // Sealed in boxed memory, so that the plain key never lies in `out`.
    let mut sealed = dek.duplicate();
    let mut tag = [0; 16];
    sealed = Secret::try_write(|data| {
        data.copy_from_slice(sealed.expose());
        tag = GcmKey::new(subject_key)?.seal(nonce, aad, data)?;
        Ok::<_, VaultError>(())
    })?;
    out[12..44].copy_from_slice(sealed.expose());
    out[44..].copy_from_slice(&tag);
    Ok(out)
}

fn unwrap(body: &Body, vault: Uuid, record: &KeyRecord) -> Result<Secret<32>> {
    let corrupt = |reason: &str| VaultError::KeystoreCorrupt {
        reason: format!("{reason} of object {}", record.object),
    };
    let key = body
        .subjects
        .get(&record.subject)
        .ok_or_else(|| corrupt("the subject key"))?;
    let aad = wrap_aad(vault, record.key_record, record.subject, record.object);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&record.wrapped[..12]);
    Secret::try_write(|dek| {
        GcmKey::new(key)?
            .open(
                nonce,
                &aad,
                &record.wrapped[12..44],
                &record.wrapped[44..],
                dek,
            )
            .ok_or_else(|| corrupt("the wrapped key"))
    })
}

/// For frozen vectors, which are written again from their DEK.
#[cfg(test)]
pub(crate) fn unwrap_for_vectors(body: &Body, vault: Uuid, record: &KeyRecord) -> Secret<32> {
    unwrap(body, vault, record).unwrap()
}

/// Data key and content key, for the search of memory after a vault was closed.
#[cfg(feature = "fuzzing")]
pub(crate) fn for_search(
    body: &Body,
    vault: Uuid,
    record: &KeyRecord,
    header: &Header,
) -> Result<(Secret<32>, Secret<32>)> {
    let dek = unwrap(body, vault, record)?;
    let content = expand(&dek, header, "aegis/v1/content")?;
    Ok((dek, content))
}

/// PRK = HKDF-Extract(salt, DEK); every key expands from label ‖ header bytes 0..96.
fn expand(dek: &Secret<32>, header: &Header, label: &str) -> Result<Secret<32>> {
    Prk::extract(&header.salt, dek.expose()).expand(&[label.as_bytes(), &header.context()])
}

/// Keys of the header: metadata, MAC, commitment.
pub(crate) struct HeaderKeys {
    meta: GcmKey,
    mac: Secret<32>,
    /// Stored in the header, so that one ciphertext cannot open under two keys.
    pub commitment: [u8; 32],
}

impl HeaderKeys {
    fn derive(dek: &Secret<32>, header: &Header) -> Result<Self> {
        Ok(Self {
            meta: GcmKey::new(&expand(dek, header, "aegis/v1/meta")?)?,
            mac: expand(dek, header, "aegis/v1/mac")?,
            commitment: *expand(dek, header, "aegis/v1/commit")?.expose(),
        })
    }

    /// Seals the padded metadata. The key seals exactly one message a write, so the nonce is zero.
    pub fn seal_meta(&self, mut plain: Vec<u8>) -> Result<Vec<u8>> {
        let tag = self.meta.seal([0; 12], &[], &mut plain)?;
        plain.extend_from_slice(&tag);
        Ok(plain)
    }

    /// Opens the padded metadata of an authenticated header.
    pub fn open_meta(&self, header: &Header) -> Result<Vec<u8>> {
        let (ciphertext, tag) = header.meta.split_at(header.meta.len() - 16);
        let mut plain = vec![0; ciphertext.len()];
        self.meta
            .open([0; 12], &[], ciphertext, tag, &mut plain)
            .ok_or(VaultError::HeaderTampered {
                object: header.object,
                reason: "metadata",
            })?;
        Ok(plain)
    }

    /// MAC over header bytes 0..4064.
    pub fn mac(&self, covered: &[u8]) -> [u8; 32] {
        kdf::mac(&self.mac, &[covered])
    }

    /// Commitment, then MAC, then the version the keystore has on record: each before any data is touched.
    fn authenticate(&self, header: &Header, raw: &[u8; HEADER], record: &KeyRecord) -> Result<()> {
        let bad = |reason| {
            Err(VaultError::HeaderTampered {
                object: record.object,
                reason,
            })
        };
        if !kdf::same(&self.commitment, &header.commitment) {
            return bad("key commitment");
        }
        if !kdf::same(&self.mac(&raw[..MAC_AT]), &raw[MAC_AT..]) {
            return bad("mac");
        }
        if !kdf::same(&record.header_mac, &raw[MAC_AT..]) {
            return bad("not the version on record");
        }
        Ok(())
    }
}

/// All keys of an object being written.
pub(crate) struct WriteKeys {
    pub content: GcmKey,
    pub header: HeaderKeys,
}

impl WriteKeys {
    pub fn derive(dek: &Secret<32>, header: &Header) -> Result<Self> {
        Ok(Self {
            content: GcmKey::new(&expand(dek, header, "aegis/v1/content")?)?,
            header: HeaderKeys::derive(dek, header)?,
        })
    }
}

/// A header with the file it came from and its keystore record.
pub(crate) struct SealedKeys<'a> {
    pub body: &'a Body,
    pub vault: Uuid,
    pub record: &'a KeyRecord,
    pub header: &'a Header,
    pub raw: &'a [u8; HEADER],
}

impl SealedKeys<'_> {
    fn authentic(&self) -> Result<(Secret<32>, HeaderKeys)> {
        let dek = unwrap(self.body, self.vault, self.record)?;
        let keys = HeaderKeys::derive(&dek, self.header)?;
        keys.authenticate(self.header, self.raw, self.record)?;
        Ok((dek, keys))
    }

    /// Keys of the header only: names and attributes, no content.
    pub fn header_keys(&self) -> Result<HeaderKeys> {
        self.authentic().map(|(_, keys)| keys)
    }

    /// The decrypt path: without a permit redeemed a moment ago there is no content key.
    pub fn content(&self, witness: &Witness<'_>) -> Result<GcmKey> {
        let permit = witness.permit();
        // The governance rows of a dataset are never handed out; a permit names the data object.
        if permit.vault() != self.vault
            || permit.object() != self.record.object
            || self.record.kind != Kind::Data
        {
            return Err(aegis_policy::PermitError::Scope {
                permit: permit.id(),
                what: format!("object {}", self.record.object),
            }
            .into());
        }
        let (dek, _) = self.authentic()?;
        GcmKey::new(&expand(&dek, self.header, "aegis/v1/content")?)
    }

    /// Governance rows (schema, facts, classes, pseudonyms): the vault's own metadata, sealed like data.
    pub fn rows(&self) -> Result<GcmKey> {
        if self.record.kind != Kind::Rows {
            return Err(VaultError::PermitRequired {
                object: self.record.object,
                reason: "not governance metadata",
            });
        }
        let (dek, _) = self.authentic()?;
        GcmKey::new(&expand(&dek, self.header, "aegis/v1/content")?)
    }

    /// Authenticates chunks without handing out plaintext.
    pub fn verifier(&self) -> Result<Verifier> {
        let (dek, _) = self.authentic()?;
        Ok(Verifier(GcmKey::new(&expand(
            &dek,
            self.header,
            "aegis/v1/content",
        )?)?))
    }
}

impl WriteKeys {
    /// For reading back what was written.
    pub fn into_verifier(self) -> Verifier {
        Verifier(self.content)
    }
}

impl SealedKeys<'_> {
    /// For re-encryption within the vault: no plaintext leaves it.
    pub fn resealer(&self) -> Result<(Resealer, HeaderKeys)> {
        let (dek, keys) = self.authentic()?;
        let content = GcmKey::new(&expand(&dek, self.header, "aegis/v1/content")?)?;
        Ok((Resealer(content), keys))
    }
}

/// Opens chunks that go straight into another object of the vault.
pub(crate) struct Resealer(GcmKey);

impl Resealer {
    /// Whether the chunk is authentic; then it is in `plain`, which has exactly its length.
    pub fn open(&self, index: u64, last: bool, sealed: &[u8], plain: &mut [u8]) -> bool {
        chunk::open(&self.0, index, last, sealed, plain).is_some()
    }

    /// For a table, which is not written anew chunk by chunk.
    #[cfg(feature = "tables")]
    pub fn into_key(self) -> GcmKey {
        self.0
    }
}

/// Opens chunks only to clear them.
pub(crate) struct Verifier(GcmKey);

impl Verifier {
    /// Whether the chunk is authentic. `scratch` holds at least `len` bytes and is zero afterwards.
    pub fn check(
        &self,
        index: u64,
        last: bool,
        sealed: &[u8],
        len: usize,
        scratch: &mut [u8],
    ) -> bool {
        let plain = &mut scratch[..len];
        let good = chunk::open(&self.0, index, last, sealed, plain).is_some();
        plain.zeroize();
        good
    }
}
