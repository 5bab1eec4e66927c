//! How a keystore opens: the provider's key, the epoch secret, the root under both.

pub(crate) mod auth;
pub(crate) mod epoch;
