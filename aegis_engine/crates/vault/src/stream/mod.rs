//! Records in an order: sources, the shuffle of an epoch, threads that decrypt ahead.

pub(crate) mod ahead;
pub(crate) mod epoch;
pub(crate) mod order;
pub(crate) mod source;
