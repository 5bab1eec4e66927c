//! Code that asks the machine goes here: files, locks, the clock, random bytes, fail points. The few
//! exceptions in other rooms are listed in `tests/door.rs`.

pub(crate) mod clock;
pub(crate) mod failpoint;
pub(crate) mod files;
pub(crate) mod lock;
pub(crate) mod outside;
