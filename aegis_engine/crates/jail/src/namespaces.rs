//! Namespaces: a process that no longer shares network, processes, mounts or names with its host.
#![allow(unsafe_code)] // unshare(2) is unsafe in rustix, for a flag that is not used here

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{
    DumpableBehavior, Signal, getgid, getuid, set_dumpable_behavior,
    set_parent_process_death_signal,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{JailError, Layer};

/// The only user and group there are inside. Outside it is whoever started the process.
const INSIDE: u32 = 1000;

/// Whether this process, or the one it was forked from, has left the host. A mount before that would be one of the host's.
static LEFT: AtomicBool = AtomicBool::new(false);

/// Puts this process's next child into namespaces of its own; that child is their first process and has every capability inside
/// them, none outside. This process dies with whoever started it, and nobody may look into its memory.
///
/// # Errors
///
/// More than one thread runs, or the kernel gives no user namespaces.
pub fn leave_host() -> Result<(), JailError> {
    one_thread()?;
    let failed = |what| JailError::layer(Layer::Namespaces, what);
    die_with_parent()?;
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: `FILES` is not among the flags, so no thread loses a descriptor.
    unsafe { unshare_unsafe(flags) }
        .map_err(io::Error::from)
        .map_err(failed("unshare(2)"))?;
    fs::write("/proc/self/setgroups", "deny").map_err(failed("/proc/self/setgroups"))?;
    fs::write("/proc/self/uid_map", format!("{INSIDE} {uid} 1"))
        .map_err(failed("/proc/self/uid_map"))?;
    fs::write("/proc/self/gid_map", format!("{INSIDE} {gid} 1"))
        .map_err(failed("/proc/self/gid_map"))?;
    LEFT.store(true, Ordering::SeqCst);
    undumpable()
}

/// Refuses to mount anything in the host's own view.
pub(crate) fn has_left() -> Result<(), JailError> {
    if LEFT.load(Ordering::SeqCst) {
        return Ok(());
    }
    Err(JailError::layer(
        Layer::Namespaces,
        "a view without namespaces",
    )(io::Error::other("leave_host comes first")))
}

/// Ends this process when its parent ends. A fork does not inherit that.
pub(crate) fn die_with_parent() -> Result<(), JailError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)
        .map_err(JailError::layer(Layer::Namespaces, "PR_SET_PDEATHSIG"))
}

/// No core dump, and no look into `/proc/PID/mem` or `ptrace` from another process of the same user.
pub(crate) fn undumpable() -> Result<(), JailError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(io::Error::from)
        .map_err(JailError::layer(Layer::Namespaces, "PR_SET_DUMPABLE"))
}

/// Refuses a process of several threads: credentials, filters and mounts are a thread's.
pub(crate) fn one_thread() -> Result<(), JailError> {
    // Without /proc nobody can count; there a process of ours has been forked, so it has one.
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) | Err(_) => Ok(()),
        Ok(many) => Err(JailError::Threads(many)),
    }
}
