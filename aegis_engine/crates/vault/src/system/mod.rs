//! What the machine gives: files in the vault's folder and outside it, locks, time and random bytes, fail points. No other room asks the machine.

pub(crate) mod clock;
pub(crate) mod fail;
pub(crate) mod files;
pub(crate) mod lock;
pub(crate) mod outside;
