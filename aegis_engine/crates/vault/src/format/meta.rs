//! The name and attributes of an object: a CBOR map (RFC 8949) in the encrypted header, padded so that its length
//! tells little.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::header::{META_MAX, TAG};
use crate::format::name;

/// Padding unit of the plaintext metadata.
const PAD: usize = 256;
/// Attributes with this prefix are the vault's own.
pub(crate) const RESERVED: &str = "aegis.";
/// The attribute of a dataset that names its governance rows.
pub(crate) const ROWS_ATTR: &str = "aegis.rows";

/// What the owner says about an object; encrypted in its header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Name, such as the file name it came from.
    pub name: String,
    /// Media type (RFC 6838); `application/octet-stream` when empty.
    pub media_type: String,
    /// Whom it is about, when it is about one person: shares a subject key with the person's other objects.
    pub subject: Option<String>,
    /// Free attributes; keys starting with `aegis.` are refused.
    pub attrs: BTreeMap<String, String>,
}

impl Meta {
    /// Metadata of that name, everything else empty.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// What a caller may ask for; an object that is re-encrypted keeps the name it has.
    pub(crate) fn check(&self) -> Result<()> {
        name::check(&self.name)?;
        match self.attrs.keys().find(|key| key.starts_with(RESERVED)) {
            Some(key) => Err(VaultError::BadRequest {
                what: format!(
                    "attribute {key:?} is reserved; use another prefix than {RESERVED:?}"
                ),
            }),
            None => Ok(()),
        }
    }
}

/// An object as the vault describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its id.
    pub id: Uuid,
    /// Name given at store.
    pub name: String,
    /// Media type.
    pub media_type: String,
    /// Subject, when given.
    pub subject: Option<String>,
    /// Attributes; `aegis.rows` names the governance rows of a dataset.
    pub attrs: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub created: u64,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Number of chunks, at least 1.
    pub chunks: u64,
    /// Plaintext bytes of a full chunk.
    pub chunk_bytes: u64,
}

/// The CBOR map.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    pub name: String,
    pub media_type: String,
    pub created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub attrs: BTreeMap<String, String>,
}

impl Sealed {
    pub fn new(meta: Meta, created: u64) -> Self {
        let media_type = if meta.media_type.is_empty() {
            "application/octet-stream".to_owned()
        } else {
            meta.media_type
        };
        Self {
            name: meta.name,
            media_type,
            created,
            subject: meta.subject,
            attrs: meta.attrs,
        }
    }

    /// CBOR, then zeros to a multiple of 256 bytes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(META_MAX);
        ciborium::into_writer(self, &mut out).map_err(|_| VaultError::BadRequest {
            what: "the metadata cannot be encoded; use plain text".to_owned(),
        })?;
        let limit = (META_MAX - TAG) / PAD * PAD;
        if out.len() > limit {
            return Err(VaultError::MetadataTooLarge {
                limit,
                found: out.len(),
            });
        }
        out.resize(out.len().next_multiple_of(PAD), 0);
        Ok(out)
    }

    /// Strict: one map, then fewer than 256 zeros.
    pub fn decode(bytes: &[u8], object: Uuid) -> Result<Self> {
        let bad = || VaultError::HeaderTampered {
            object,
            reason: "metadata encoding",
        };
        let mut rest = bytes;
        let sealed = ciborium::from_reader(&mut rest).map_err(|_| bad())?;
        if rest.len() >= PAD || rest.iter().any(|b| *b != 0) {
            return Err(bad());
        }
        Ok(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trips_and_is_padded() {
        let meta = Meta {
            name: "é.csv".into(),
            subject: Some("p".into()),
            ..Meta::default()
        };
        let bytes = Sealed::new(meta, 7).encode().unwrap();
        assert_eq!(bytes.len() % PAD, 0);
        let back = Sealed::decode(&bytes, Uuid::nil()).unwrap();
        assert_eq!(
            (back.name.as_str(), back.created, back.subject.as_deref()),
            ("é.csv", 7, Some("p"))
        );
    }

    #[test]
    fn too_many_attributes_are_refused_with_the_limit() {
        let meta = Meta::named("n".repeat(4000));
        let error = Sealed::new(meta, 0).encode().unwrap_err();
        assert!(matches!(
            error,
            VaultError::MetadataTooLarge { limit: 3840, .. }
        ));
    }

    #[test]
    fn bytes_after_the_map_are_refused() {
        let mut bytes = Sealed::new(Meta::named("n"), 0).encode().unwrap();
        *bytes.last_mut().unwrap() = 1;
        assert!(Sealed::decode(&bytes, Uuid::nil()).is_err());
    }

    #[test]
    fn reserved_attributes_are_refused() {
        let mut meta = Meta::named("n");
        meta.attrs.insert("aegis.rows".into(), "x".into());
        assert!(matches!(meta.check(), Err(VaultError::BadRequest { .. })));
    }
}
