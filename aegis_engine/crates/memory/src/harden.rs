//! Settings of the whole process. Offered, never forced: they break debuggers and profilers.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// No core dumps, and no attaching by other processes of the same user (`PR_SET_DUMPABLE` 0, `RLIMIT_CORE` 0). Breaks
/// debuggers, py-spy and `/proc/<pid>/mem` of this process, on purpose; cannot be undone for the core limit.
///
/// # Errors
/// What the system refused.
pub fn harden_process() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Bytes this process may lock into RAM; `None` = no limit.
pub fn locked_limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}
