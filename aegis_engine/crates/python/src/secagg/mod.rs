//! What belongs to secure aggregation may be put here: plans, machines and rosters of `aegis-secagg` as Python sees them.

pub mod client;
mod machine;
pub mod plan;
pub mod roster;
pub mod server;
pub mod sum;
