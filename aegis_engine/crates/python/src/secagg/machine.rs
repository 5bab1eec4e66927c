//! What both machines need.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_secagg::Roster;

use crate::convert::digest;
use crate::error::Result;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The machines change nothing when they refuse, so a panic half-way is the only way here; their own checks hold.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn members(roster: Option<Vec<Vec<u8>>>) -> Result<Option<Roster>> {
    let pinned = roster.map(|all| all.iter().map(|key| digest(key)).collect());
    Ok(pinned.transpose()?)
}
