//! Ways to get root keys, and to give them up, go here.

pub(crate) mod auth;
pub(crate) mod epoch;
pub(crate) mod provider;
