//! Iteration over permitted rows goes here: in which order, in which shard, how far ahead.

pub(crate) mod ahead;
pub(crate) mod iterate;
pub(crate) mod order;
pub(crate) mod source;
