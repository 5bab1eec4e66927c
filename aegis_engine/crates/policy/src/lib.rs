//! Decides who may use which rows of a data set for what, and what may leave again. Every decision is written to the audit
//! log before it counts.
//!
//! # Start here
//!
//! [`Engine::authorize`] is the one way in: it asks a Cedar [`Bundle`] about the dataset and about every kind of row, and
//! gives a [`Permit`]. [`Engine::gate`] is the one way out: it checks an update and gives a [`Release`].
//!
//! ```
//! use aegis_policy::{Bundle, Engine};
//! let engine = Engine::new(Bundle::core()).unwrap();
//! assert!(engine.bundle().ids().contains("core.consent"));
//! println!("{}", engine.bundle().advice("core.consent").unwrap());
//! ```
//!
//! # The rule about keys
//!
//! This crate holds no key and sees no plaintext. The vault's key unwrapping takes a [`Witness`], which only
//! [`Permit::redeem`] makes: to leave the check out does not compile.
//!
//! # What stays compatible
//!
//! The audit records, the consent ledger, the encoded [`RowIndex`], the hashes of bundles, facts and row sets, and the ids of
//! the policies in [`Bundle::core`] keep their meaning and their bytes: logs and vaults of earlier versions are read for ever.
//! Names of this crate may change with a minor version until 1.0.
//!
//! # Every fault denies
//!
//! An error inside a policy, a consent ledger that cannot be read, an audit record that did not reach the disk, a clock that
//! went back, a bulk decision that differs from a single one: there is no permit, and no release.
//!
//! # Rooms, the lowest first
//!
//! | room | what may be put there |
//! |---|---|
//! | `digest` | hashes and their text |
//! | [`error`] | errors and what they carry; imports nothing of the crate |
//! | [`bundle`] | policies as texts and as files |
//! | [`words`] | names of people and purposes, one spelling each |
//! | [`rows`] | which rows, of what class and subject, under which terms |
//! | [`consent`] | the ledger of what people allowed and forbade |
//! | [`permit`], [`owner`] | the permit, and the one of a vault without policies |
//! | `cedar` | questions and answers in Cedar's types; no other file knows them but the bundle's |
//! | [`engine`] | the decision to let data in |
//! | [`release`] | the decision to let an update out |

pub mod bundle;
mod cedar;
pub mod consent;
mod digest;
pub mod engine;
pub mod error;
pub mod owner;
pub mod permit;
pub mod release;
pub mod rows;
#[cfg(test)]
mod tests;
pub mod words;

pub use bundle::Bundle;
pub use consent::{Change, ConsentLedger, Flags, Prove};
pub use engine::{Authorized, Engine, Explanation, Request};
pub use error::{ConsentError, GateResult, PermitError, PolicyError};
pub use owner::owner_permit;
pub use permit::{Action, Authority, Permit, Scope, Witness};
pub use release::counts::{Block, CountsNoise};
pub use release::session::DpSession;
pub use release::{GateLimits, Part, Proposal, Release, TensorSpec};
pub use rows::{BySubject, Class, DatasetFacts, Role, RowIndex, RowSet, Subject, distinct};
