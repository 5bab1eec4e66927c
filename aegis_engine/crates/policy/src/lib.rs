//! Policy, permits, consent and release gates of AEGIS.
//!
//! One way to plaintext: [`Engine::authorize`] asks a Cedar [`Bundle`] for the dataset and for every kind of row,
//! writes the decision to the audit log, and only then makes a [`Permit`]. One way out: [`Engine::gate`] checks an
//! update, asks the bundle again, writes the answer down, and only then makes a [`Release`]. Every fault denies:
//! an error inside a policy, a consent ledger that cannot be read, an audit record that did not reach the disk,
//! a clock that went back, a bulk decision that differs from a single one.

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
pub use release::counts::CountsNoise;
pub use release::session::DpSession;
pub use release::{GateLimits, Part, Proposal, Release, TensorSpec};
pub use rows::{Class, DatasetFacts, Role, RowIndex, RowSet, Subject};
