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

mod auth;
mod backup;
#[doc(hidden)]
pub mod bench;
mod blob;
mod bulk;
mod changes;
mod chunk;
mod create;
mod dataset;
mod destroy;
mod doctor;
mod envelope;
mod epoch;
mod error;
mod exclusive;
mod fail;
mod files;
mod fsck;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod govern;
mod header;
mod heads;
mod kdf;
mod keys;
mod keystore;
mod layout;
mod list;
mod lock;
mod many;
mod meta;
mod names;
mod object;
mod outside;
mod project;
mod proof;
mod provider;
mod read;
mod receipt;
mod record;
mod records;
mod recover;
mod reencrypt;
mod rename;
mod rotate;
mod schema;
mod scrub;
mod secret;
mod shred;
mod shuffle;
mod state;
mod store;
#[cfg(feature = "tables")]
mod store_table;
mod stream;
#[cfg(feature = "tables")]
mod table;
#[cfg(test)]
mod tests;
mod trail;
mod vault;
mod verify;
mod writer;

pub use backup::LogTrust;
pub use dataset::{Dataset, ROWS_MEDIA_TYPE};
pub use doctor::{Fact, doctor};
pub use error::{Result, VaultError};
pub use fsck::{Finding, FsckOptions, FsckReport, Severity};
pub use keystore::{KnownCopy, NamedHead};
pub use many::Item;
pub use meta::{Meta, ObjectInfo};
pub use project::RecordReader;
#[cfg(feature = "pkcs11")]
pub use provider::Pkcs11;
pub use provider::{Command, Destroyed, KeyProvider, Kind as ProviderKind, Passphrase, Provider};
pub use read::ObjectReader;
pub use receipt::{Level, ShredReceipt};
pub use records::{Records, Source, Spans};
pub use schema::{
    Column, CsvLayout, Dtype, Layout, RecordSchema, TableColumn, TableSchema, TableTag,
};
pub use scrub::{Damage, ScrubProgress, ScrubReport};
pub use secret::Secret;
pub use shuffle::shuffle_order;
pub use store::StoreOptions;
pub use stream::{BlockShuffle, RecordStream, StreamOptions};
#[cfg(feature = "tables")]
pub use table::{TableBatches, TableReader, TableRequest};
pub use vault::Vault;
pub use verify::{VerifyProgress, VerifyReport};
pub use writer::ObjectWriter;
