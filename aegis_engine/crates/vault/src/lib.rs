//! Encrypted storage of training data in a folder: objects are sealed in chunks as they stream in, and opened only against
//! a permit. The crate knows nothing of training; it keeps the data, the keys, and the record of who was let at what.
//!
//! # Start here
//!
//! ```
//! # use std::sync::Arc;
//! # use aegis_policy::Action;
//! # use aegis_vault::{Meta, Provider, Vault};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("vault");
//! let vault = Vault::create(&path, &Provider::raw(&[7; 32])?)?;
//! let id = vault.store_bytes(b"training data", Meta::named("first"))?;
//! let permit = Arc::new(vault.owner_permit(id, Action::Train)?);
//! let mut data = [0; 13];
//! vault.reader(&permit, id)?.read_at(0, &mut data)?;
//! # assert_eq!(&data, b"training data");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From there: [`ObjectWriter`] for what does not fit in memory, [`Vault::records`] and [`Records`] for rows under a policy,
//! [`Vault::shred`] for the end.
//!
//! # The one rule about keys
//!
//! A content key is unwrapped only against a [`Witness`](aegis_policy::Witness), which only a redeemed
//! [`Permit`](aegis_policy::Permit) gives: a read without a permit does not compile. A permit is redeemed again at every
//! call, so one that has ended opens nothing more. [`Vault::verify`] authenticates without a permit, and clears what it opened.
//! [`Vault::shred`] replaces the epoch secret, so that old copies of the keystore stop opening, and says in a
//! [`ShredReceipt`] what it did not reach.
//!
//! # What stays compatible
//!
//! - The bytes on disk. What a released version wrote, later ones read; `tests/vectors/vault/` holds frozen vaults, and a
//!   change of any byte is a new version of the format. The formats are described where they are decoded, at the head of each file in
//!   `format/` and of `keys/epoch.rs`: an independent reader can be written from them.
//! - The codes of errors ([`VaultError::code`]): a code never changes its meaning.
//!
//! The Rust interface is not promised: the crate is not published, and its users are in this repository.
//!
//! # The rooms, lowest first
//!
//! Imports go down only; `tests/contract/test_layers_rust.py` holds them to it.
//!
//! | room | what is in it |
//! |---|---|
//! | `level`, `error` | how much a shred proves; every refusal, with its code |
//! | `system/` | files, locks, the clock, random bytes, fail points |
//! | `secret`, `kdf` | secret bytes in guarded memory, and keys made from keys |
//! | `format/` | bytes on disk and the types they become |
//! | `keys/` | where root keys come from, and how they are given up |
//! | `vault/` | the open handle and what guards it |
//! | `object/` | one sealed file: its keys, reading it, writing it |
//! | `ops/` | the verbs: create, open, store, shred, verify, back up … one file each |
//! | `dataset/` | rows under governance: records, tables, people, lineages |
//! | `stream/` | permitted rows in an order, for training |
//! | `fuzzing/` | decoders of untrusted bytes, for the fuzz targets |

mod dataset;
mod error;
mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kdf;
mod keys;
mod level;
mod object;
mod ops;
mod secret;
mod stream;
mod system;
#[cfg(test)]
mod tests;
mod vault;

pub use dataset::amend::{Amended, Amendment};
pub use dataset::card::{ClassCard, ColumnCard, ConsentCard, ConsentOf, DatasetCard};
pub use dataset::consents::Effect;
pub use dataset::erase::{EraseReceipt, ErasedFrom};
pub use dataset::records::RecordReader;
#[cfg(feature = "tables")]
pub use dataset::tables::draft::{Consents, Governed, TableDraft};
#[cfg(feature = "tables")]
pub use dataset::tables::open::TableRequest;
#[cfg(feature = "tables")]
pub use dataset::tables::read::{TableBatches, TableReader};
pub use dataset::{Dataset, ROWS_MEDIA_TYPE};
pub use error::{Result, VaultError};
pub use format::keystore::{KnownCopy, NamedHead};
pub use format::meta::{Meta, ObjectInfo};
pub use format::schema::{
    Column, CsvLayout, Dtype, Layout, RecordSchema, TableColumn, TableSchema, TableTag,
};
#[cfg(feature = "pkcs11")]
pub use keys::provider::Pkcs11;
pub use keys::provider::{
    Command, Destroyed, KeyProvider, Kind as ProviderKind, Passphrase, Provider,
};
pub use level::Level;
pub use object::reader::ObjectReader;
pub use object::writer::ObjectWriter;
#[doc(hidden)]
pub use ops::bench;
pub use ops::doctor::{Fact, doctor};
pub use ops::fsck::{Finding, FsckOptions, FsckReport, Severity};
pub use ops::many::Item;
pub use ops::receipt::ShredReceipt;
pub use ops::restore::LogTrust;
pub use ops::scrub::{Damage, ScrubProgress, ScrubReport};
pub use ops::store::StoreOptions;
pub use ops::verify::{VerifyProgress, VerifyReport};
pub use secret::Secret;
pub use stream::iterate::{BlockShuffle, RecordStream, StreamOptions};
pub use stream::order::shuffle_order;
pub use stream::source::{Records, Source, Spans};
pub use vault::Vault;
pub use vault::consents::Granted;
