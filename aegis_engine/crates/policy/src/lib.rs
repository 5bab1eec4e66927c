//! Policy, permits, consent and release gates of AEGIS.
//!
//! One way to plaintext: [`Engine::authorize`] asks a Cedar [`Bundle`] for the dataset and for every kind of row,
//! writes the decision to the audit log, and only then makes a [`Permit`]. One way out: [`Engine::gate`] checks an
//! update, asks the bundle again, writes the answer down, and only then makes a [`Release`]. Every fault denies:
//! an error inside a policy, a consent ledger that cannot be read, an audit record that did not reach the disk,
//! a clock that went back, a bulk decision that differs from a single one.

mod bulk;
pub mod bundle;
mod cedar;
mod checks;
pub mod consent;
pub mod counts;
pub mod engine;
pub mod error;
pub mod facts;
pub mod gate;
pub mod owner;
pub mod permit;
pub mod rows;
pub mod session;
#[cfg(test)]
mod tests;
pub mod words;

pub use bundle::Bundle;
pub use consent::{ConsentError, ConsentLedger, Flags};
pub use counts::CountsNoise;
pub use engine::{Authorized, Engine, Explanation, Request};
pub use error::PolicyError;
pub use facts::{DatasetFacts, Role};
pub use gate::{GateLimits, GateResult, Part, Proposal, Release, TensorSpec};
pub use owner::owner_permit;
pub use permit::{Action, Authority, Permit, PermitError, Scope, Witness};
pub use rows::{Class, RowIndex, RowSet, Subject};
pub use session::DpSession;

/// Lower-case hexadecimal, as in audit records.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// SHA-256 (FIPS 180-4) of the parts, each behind its length, so that no two lists of parts hash alike.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
