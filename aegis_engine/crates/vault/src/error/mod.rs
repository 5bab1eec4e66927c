//! Every refusal of the crate goes here, in one tree: what happened, to which object, what to do. Never a key, plaintext or a decrypted name.

mod code;

use std::path::PathBuf;

use aegis_audit::AuditError;
use aegis_policy::{PermitError, PolicyError};
use uuid::Uuid;

use crate::level::Level;

/// Shorthand of this crate.
pub type Result<T, E = VaultError> = std::result::Result<T, E>;

/// Everything the vault refuses, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The folder holds something else.
    #[error("{} is not a vault: {reason}; give the path of a vault, or an empty or new folder to create one", path.display())]
    NotAVault {
        /// Where.
        path: PathBuf,
        /// What was missing or wrong.
        reason: String,
    },
    /// Nothing is there.
    #[error("there is no vault at {}; create one there, or correct the path", path.display())]
    NotFound {
        /// Where.
        path: PathBuf,
    },
    /// `create` found a vault.
    #[error("there is already a vault at {}; open it, or choose another path", path.display())]
    AlreadyExists {
        /// Where.
        path: PathBuf,
    },
    /// Written by a later version, or with a feature this one does not have.
    #[error(
        "{what} has a format this version does not read ({detail}); upgrade aegis-flower-engine"
    )]
    UnsupportedFormat {
        /// Which file.
        what: String,
        /// Which field.
        detail: String,
    },
    /// A key of another length than 32 bytes.
    #[error(
        "the key has {found} bytes, it must have exactly {expected}; make one with `openssl rand -out key 32` or `openssl rand -hex 32`"
    )]
    WrongKeyLength {
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The key is not this vault's.
    #[error(
        "the key does not open the vault at {}; give the key the vault was created with (nothing was changed)", path.display()
    )]
    WrongKey {
        /// Where.
        path: PathBuf,
    },
    /// The key provider could not give a key.
    #[error("key provider: {reason}")]
    ProviderError {
        /// Why, and what to do.
        reason: String,
    },
    /// The header of an object is not what the vault wrote.
    #[error(
        "the header of object {object} was altered ({reason}); restore its file from a backup, then verify it"
    )]
    HeaderTampered {
        /// Which object.
        object: Uuid,
        /// Which check failed.
        reason: &'static str,
    },
    /// A chunk of an object is not what the vault wrote.
    #[error(
        "chunk {index} of object {object} failed authentication; restore its file from a backup, then verify it (no plaintext was given out)"
    )]
    ChunkAuthFailed {
        /// Which object.
        object: Uuid,
        /// Which chunk, from 0.
        index: u64,
    },
    /// Bytes are missing at the end of an object file.
    #[error(
        "the file of object {object} is truncated: {found} of {expected} bytes; restore it from a backup"
    )]
    Truncated {
        /// Which object.
        object: Uuid,
        /// Size by the authenticated header (4096 when even that is short).
        expected: u64,
        /// Size found.
        found: u64,
    },
    /// Bytes follow the end of an object file.
    #[error(
        "the file of object {object} has {extra} bytes after its end; restore it from a backup"
    )]
    TrailingData {
        /// Which object.
        object: Uuid,
        /// How many.
        extra: u64,
    },
    /// The keystore knows the object, its file is gone.
    #[error(
        "the file of object {object} is missing; restore it from a backup, or shred the object"
    )]
    ObjectMissing {
        /// Which object.
        object: Uuid,
    },
    /// No such object.
    #[error("there is no object {object} in this vault; list the vault for the ids it has")]
    ObjectNotFound {
        /// Which object.
        object: Uuid,
    },
    /// The object's keys were destroyed on purpose.
    #[error("object {object} was shredded at {}; it cannot be read any more", aegis_audit::utc(*when))]
    ObjectShredded {
        /// Which object.
        object: Uuid,
        /// When, seconds since 1970.
        when: u64,
    },
    /// The epoch secret that opens this keystore is gone.
    #[error(
        "the epoch key of this keystore is gone ({reason}); an old copy of a keystore cannot be opened after a shred, restore keystore.akv and epoch.key of the same epoch"
    )]
    KeyDestroyed {
        /// What was found.
        reason: String,
    },
    /// The keystore is not what the vault wrote.
    #[error(
        "keystore.akv is damaged or was altered ({reason}); restore it from a backup of the same epoch"
    )]
    KeystoreCorrupt {
        /// Which check failed.
        reason: String,
    },
    /// An older keystore was put back.
    #[error(
        "the keystore is of epoch {found}, this vault has reached epoch {expected}: an older copy was put back; restore the current one"
    )]
    KeystoreRollback {
        /// The epoch on record.
        expected: u64,
        /// The keystore's.
        found: u64,
    },
    /// An older keystore of the same epoch was put back.
    #[error(
        "the keystore is of generation {found}, the audit log knows generation {expected}: an older copy was put back; restore the current one, or accept the older one with `aegis vault fsck --accept-older-keystore` (what was stored since is lost)"
    )]
    KeystoreStale {
        /// The newest generation on record.
        expected: u64,
        /// The keystore's.
        found: u64,
    },
    /// The vault's key is of another kind.
    #[error(
        "this vault needs a key of kind {needed}, one of kind {given} was given; {}",
        hint(needed)
    )]
    WrongProvider {
        /// What the keystore says.
        needed: &'static str,
        /// What the caller has.
        given: &'static str,
    },
    /// Nobody of that name.
    #[error(
        "no object of this vault is about that subject alone; list the vault for the subjects it has. Rows of a person in data sets are removed by `aegis vault erase-person` (vault.erase_person)"
    )]
    SubjectNotFound,
    /// The whole vault was destroyed on purpose.
    #[error("the vault at {} was destroyed at {}; nothing in it can be read any more", path.display(), aegis_audit::utc(*when))]
    VaultDestroyed {
        /// Where.
        path: PathBuf,
        /// When, seconds since 1970.
        when: u64,
    },
    /// The source of a store became shorter while it was read.
    #[error(
        "the source became shorter while it was stored; nothing was stored, store it again when nobody writes to it"
    )]
    SourceChanged,
    /// A progress callback asked to stop.
    #[error("interrupted by the progress callback; nothing was stored or changed")]
    Interrupted,
    /// A shred intent that the vault did not write.
    #[error(
        "the shred intent {} is damaged or forged, nothing was shredded; `aegis vault fsck --repair` sets it aside, then shred the object again if that was wanted", path.display()
    )]
    IntentForged {
        /// Which file.
        path: PathBuf,
    },
    /// The keystore would become larger than one that is read.
    #[error(
        "the keystore would have {bytes} bytes, at most {max} are read; shred what is not needed, or take a second vault"
    )]
    KeystoreFull {
        /// Bytes it would have.
        bytes: u64,
        /// Bytes it may have.
        max: u64,
    },
    /// Two histories go by one name.
    #[error(
        "the head \"{name}\" is already known with {count} records, which were others: what it belongs to was put back or altered; restore it"
    )]
    HeadForked {
        /// Whose head.
        name: String,
        /// Its number of records.
        count: u64,
    },
    /// A bundle is replaced only by leave of the one before.
    #[error(
        "the vault is governed by another policy bundle; give replace= a permit that it granted to export an object of this vault, or keep it (nothing was changed)"
    )]
    Governed,
    /// `vault.json` is not what the vault wrote.
    #[error(
        "vault.json at {} is damaged ({reason}); run `aegis vault fsck --repair`, which rebuilds it from the keystore", path.display()
    )]
    AboutDamaged {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The audit log lost records that the keystore remembers.
    #[error(
        "the audit log does not contain the record the keystore remembers ({reason}); restore the audit folder, the vault stays closed until then"
    )]
    AuditRollback {
        /// What differs.
        reason: String,
    },
    /// Somebody else holds the lock.
    #[error(
        "the vault is locked by {by} and did not become free in {waited_ms} ms; try again when it has finished"
    )]
    Locked {
        /// Process, as far as known.
        by: String,
        /// How long we waited.
        waited_ms: u64,
    },
    /// A shred cannot reach the level asked for.
    #[error(
        "shredding here reaches {attainable}, {required} was required; nothing was shredded, use a provider that reaches it or lower the requirement"
    )]
    InsufficientAssurance {
        /// Asked for.
        required: Level,
        /// What this provider reaches.
        attainable: Level,
    },
    /// The vault has a policy bundle; its owner policy is off.
    #[error(
        "object {object} is governed by a policy bundle ({reason}); ask the compliance engine for a permit under the vault's bundle"
    )]
    PermitRequired {
        /// Which object.
        object: Uuid,
        /// What was presented.
        reason: &'static str,
    },
    /// The object has no records.
    #[error(
        "object {object} holds no records ({reason}); store it as a dataset of records, or read it as a whole"
    )]
    NotRecords {
        /// Which object.
        object: Uuid,
        /// What is missing.
        reason: String,
    },
    /// A table does not read as one.
    #[cfg(feature = "tables")]
    #[error("object {object}: {source}")]
    Table {
        /// Which object.
        object: Uuid,
        /// Why.
        source: aegis_tables::TableError,
    },
    /// A file that was to be stored does not read as the table it should be; nothing was stored.
    #[cfg(feature = "tables")]
    #[error("file {}: {source}; nothing was stored", path.display())]
    TableFile {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        source: aegis_tables::TableError,
    },
    /// A table and its governance rows are not of one dataset.
    #[error("object {object}: {reason}; store the table again, with its subjects")]
    TableMismatch {
        /// Which object.
        object: Uuid,
        /// What differs.
        reason: &'static str,
    },
    /// Arguments that do not fit together.
    #[error("{what}")]
    BadRequest {
        /// What, and what to do.
        what: String,
    },
    /// Name and attributes do not fit the header.
    #[error(
        "name, media type, subject and attributes need {found} bytes, the header holds {limit}; shorten the attributes"
    )]
    MetadataTooLarge {
        /// Bytes that fit.
        limit: usize,
        /// Bytes given.
        found: usize,
    },
    /// More than 2^24 chunks.
    #[error(
        "an object holds at most 2^24 chunks ({limit} bytes here); split the source, or use larger chunks"
    )]
    ObjectTooLarge {
        /// Bytes that fit with this chunk size.
        limit: u64,
    },
    /// A sealed blob does not open.
    #[error(
        "a sealed blob of domain {domain} failed authentication; it was altered, or belongs to another vault or domain"
    )]
    BlobAuthFailed {
        /// Its domain.
        domain: String,
    },
    /// The disk is full.
    #[error(
        "no space left on the disk of the vault ({op}); free some and try again, nothing stored before was lost"
    )]
    NoSpace {
        /// What was being done.
        op: &'static str,
    },
    /// A live object has that name.
    #[error(
        "object {object} is already named {name:?}; choose another name, or shred or rename that object first"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        object: Uuid,
    },
    /// Only in vaults from before names were unique.
    #[error(
        "several objects are named {name:?}; give the id, or rename all but one: {}",
        objects.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ")
    )]
    NameAmbiguous {
        /// The name.
        name: String,
        /// Whose it is.
        objects: Vec<Uuid>,
    },
    /// A link, pipe, device or another's file lies in the vault's folder.
    #[error(
        "{path} in the vault's folder is {what}; a vault has only plain files and folders of its own: nothing was followed or changed, restore the folder, or remove that name when it is not the vault's"
    )]
    Unfit {
        /// Which name.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The vault cannot be written to.
    #[error(
        "the vault at {} is on a read-only file system, or may only be read: it can be listed, verified and checked; content is not given out, since each read is on record first, and nothing is changed. Mount it for writing, or copy the vault", path.display()
    )]
    ReadOnly {
        /// Where.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{op} {path}: {source}")]
    Io {
        /// What was being done.
        op: &'static str,
        /// File name within the vault.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The process forked after the vault was opened.
    #[error(
        "the vault was opened before this process forked; open it again here (use spawn, not fork, for workers)"
    )]
    ForkedProcess,
    /// An earlier failure took a reader or writer out of use.
    #[error("this reader or writer is closed; open the object again")]
    Closed,
    /// The cryptographic module failed.
    #[error(
        "the cryptographic module failed at {op}; the system random source or the build is broken"
    )]
    Crypto {
        /// At what.
        op: &'static str,
    },
    /// The permit does not open this.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// The compliance engine refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The audit log refused.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// What to give instead.
fn hint(needed: &str) -> &'static str {
    match needed {
        "passphrase" => "give the passphrase it was made with",
        "pkcs11" => "give the PKCS#11 token it was made with",
        "kms" => "give the key service it was made with",
        _ => "give its 32-byte key or its key file",
    }
}
