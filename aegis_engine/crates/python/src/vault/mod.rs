//! Methods of the vault that give no rows out may be put here: one file for each thing a data steward does with it.

pub mod audit;
mod consent;
mod erase;
pub mod maintain;
pub mod names;
mod open;
mod source;
mod store;
pub mod writer;
