//! Governance metadata of a dataset: a second object beside the rows.
//!
//! Its content: `AEGISRW1` ‖ data object id 16 ‖ u64 n, schema JSON ‖ u64 n, facts JSON ‖ u64 n, row index (aegis-policy's
//! encoding).

use aegis_policy::{DatasetFacts, RowIndex};
use aws_lc_rs::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Result, VaultError};
use crate::format::schema::{Layout, RecordSchema};

/// Media type of governance rows.
pub const ROWS_MEDIA_TYPE: &str = "application/vnd.aegis.rows";
/// Attribute of the data object that names its governance rows.
pub const ROWS_ATTR: &str = "aegis.rows";
const MAGIC: &[u8; 8] = b"AEGISRW1";

/// Governance metadata of a dataset; no training data.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The data object.
    pub id: Uuid,
    /// How its rows are laid out.
    pub layout: Layout,
    /// What the data steward fixed.
    pub facts: DatasetFacts,
    /// Class and subject of every row.
    pub index: RowIndex,
    /// Number of rows.
    pub rows: u32,
    /// SHA-256 of the governance metadata without the object's id: the same after a rename and a re-encryption.
    pub(crate) content: [u8; 32],
}

impl Dataset {
    /// Columns of a record.
    ///
    /// # Errors
    /// [`VaultError::NotRecords`] when the dataset is a table.
    pub fn records(&self) -> Result<&RecordSchema> {
        match &self.layout {
            Layout::Records(schema) => Ok(schema),
            Layout::Table(_) => Err(VaultError::NotRecords {
                object: self.id,
                reason: "it is a table, which is opened as one".to_owned(),
            }),
        }
    }
}

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

pub(crate) fn encode(
    object: Uuid,
    schema: &Layout,
    facts: &DatasetFacts,
    index: &RowIndex,
) -> Result<Zeroizing<Vec<u8>>> {
    fn json(value: &impl Serialize) -> Result<Vec<u8>> {
        serde_json::to_vec(value).map_err(|error| {
            bad(format!(
                "schema or facts cannot be written as JSON: {error}"
            ))
        })
    }
    let index = Zeroizing::new(index.encode()?);
    let (schema, facts) = (json(schema)?, json(facts)?);
    let mut out = Zeroizing::new(Vec::with_capacity(
        48 + schema.len() + facts.len() + index.len(),
    ));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(object.as_bytes());
    for part in [&schema, &facts, &*index] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    Ok(out)
}

/// Strict; `None` = malformed or of another data object.
pub(crate) fn decode(object: Uuid, bytes: &[u8]) -> Option<Dataset> {
    fn json<T: DeserializeOwned>(part: &[u8]) -> Option<T> {
        serde_json::from_slice(part).ok()
    }
    fn part<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
        let (len, tail) = rest.split_first_chunk::<8>()?;
        let (part, tail) =
            tail.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        *rest = tail;
        Some(part)
    }
    let mut rest = bytes.strip_prefix(MAGIC)?.strip_prefix(object.as_bytes())?;
    let (schema, facts, index) = (part(&mut rest)?, part(&mut rest)?, part(&mut rest)?);
    if !rest.is_empty() {
        return None;
    }
    let index = RowIndex::decode(index).ok()?;
    let mut content = [0; 32];
    content.copy_from_slice(digest::digest(&digest::SHA256, &bytes[24..]).as_ref());
    Some(Dataset {
        content,
        id: object,
        layout: json(schema)?,
        facts: json(facts)?,
        rows: index.len(),
        index,
    })
}
