//! Encrypted storage of training data: streaming objects, sealed in chunks, opened only against a permit.
//!
//! - [`Vault`] creates, opens, lists and describes; [`ObjectWriter`] stores; [`ObjectReader`] and [`RecordReader`]
//!   read under a [`Permit`](aegis_policy::Permit), which they redeem again at every call.
//! - The format of an object file is in `header.rs` and `chunk.rs`, of the keystore in `envelope.rs` and
//!   `keystore.rs`, of the epoch secret in `epoch.rs`: an independent reader can be written from them.
//! - Unwrapping a content key takes a [`Witness`](aegis_policy::Witness): a read without a redeemed permit does not
//!   compile. [`Vault::verify`] authenticates without a permit, and clears what it opened.
//! - [`Vault::shred`] ratchets the epoch secret, so that old copies of the keystore stop opening, and says in a
//!   [`ShredReceipt`] what it did not reach.

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
mod provider;
mod secret;
mod stream;
mod system;
#[cfg(test)]
mod tests;
mod vault;

pub use dataset::consents::{Effect, Granted};
pub use dataset::erase::{EraseReceipt, ErasedFrom};
pub use dataset::records::RecordReader;
#[cfg(feature = "tables")]
pub use dataset::table::{TableBatches, TableReader, TableRequest};
pub use error::{Result, VaultError};
pub use format::governance::{Dataset, ROWS_ATTR, ROWS_MEDIA_TYPE};
pub use format::keystore::{KnownCopy, NamedHead};
pub use format::meta::{Meta, ObjectInfo};
pub use format::schema::{
    Column, CsvLayout, Dtype, Layout, RecordSchema, TableColumn, TableSchema, TableTag,
};
pub use level::Level;
pub use object::read::ObjectReader;
pub use object::writer::ObjectWriter;
pub use ops::backup::LogTrust;
#[doc(hidden)]
pub use ops::bench;
pub use ops::doctor::{Fact, doctor};
pub use ops::fsck::report::{Finding, FsckOptions, FsckReport, Severity};
pub use ops::many::Item;
pub use ops::receipt::ShredReceipt;
pub use ops::scrub::{Damage, ScrubProgress, ScrubReport};
pub use ops::store::StoreOptions;
pub use ops::verify::{VerifyProgress, VerifyReport};
#[cfg(feature = "pkcs11")]
pub use provider::Pkcs11;
pub use provider::{Command, Destroyed, KeyProvider, Kind as ProviderKind, Passphrase, Provider};
pub use secret::Secret;
pub use stream::epoch::{BlockShuffle, RecordStream, StreamOptions};
pub use stream::order::shuffle_order;
pub use stream::source::{Records, Source, Spans};
pub use vault::Vault;
