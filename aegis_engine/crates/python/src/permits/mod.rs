//! What lies between a request and a release may be put here: decisions of `aegis-policy` as Python sees them.

pub mod engine;
pub mod facts;
pub mod permit;
pub mod proposal;
pub mod release;
pub mod request;
pub mod session;

pub use permit::Permit;
pub use release::Release;
