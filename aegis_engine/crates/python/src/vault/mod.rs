//! Methods of the vault that give no rows out may be put here: one file for each thing a data steward does with it.

pub mod audit;
mod card;
mod consent;
pub mod drafts;
mod erase;
pub mod maintain;
pub mod names;
mod open;
mod source;
mod store;
pub mod writer;
