//! Confinement of one task: the last step, after which untrusted code may run.
#![allow(unsafe_code)] // unshare(2) is unsafe in rustix, for a flag that is not used here

use std::io;
use std::path::PathBuf;

use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs, unshare_unsafe,
};

use crate::namespaces::{die_with_parent, has_left, one_thread, undumpable};
use crate::view::{SCRATCH, scratch};
use crate::{JailError, Layer, Layers, Limits, filter, rules};

/// How a task is confined.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// Files and folders that the task may read, as in its [`crate::View`].
    pub readable: Vec<PathBuf>,
    /// What it may use.
    pub limits: Limits,
    /// The layers to put up. Without all of them the jail has a hole: for tests.
    pub layers: Layers,
}

impl Confinement {
    /// Confines this process for good. Whatever is open stays open: the caller has closed what the task must not have.
    ///
    /// # Errors
    ///
    /// A layer is not to be had. The process must then end, since some may be up and others not.
    pub fn apply(&self) -> Result<(), JailError> {
        one_thread()?;
        undumpable()?;
        die_with_parent()?;
        if self.layers.has(Layer::View) {
            has_left()?;
            self.private_scratch().map_err(JailError::layer(
                Layer::View,
                "a scratch folder of the task's own",
            ))?;
        }
        if self.layers.has(Layer::Limits) {
            self.limits
                .apply()
                .map_err(JailError::layer(Layer::Limits, "setrlimit(2)"))?;
        }
        set_no_new_privs(true)
            .map_err(io::Error::from)
            .map_err(JailError::layer(Layer::Capabilities, "PR_SET_NO_NEW_PRIVS"))?;
        if self.layers.has(Layer::Capabilities) {
            without_capabilities().map_err(JailError::layer(Layer::Capabilities, "capset(2)"))?;
        }
        if self.layers.has(Layer::Landlock) {
            rules::apply(&self.readable)?;
        }
        if self.layers.has(Layer::Seccomp) {
            filter::apply()?;
        }
        Ok(())
    }

    /// Mounts that end with the task: what it writes is gone, and the next one finds nothing.
    fn private_scratch(&self) -> io::Result<()> {
        // SAFETY: `FILES` is not among the flags, so no thread loses a descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC) }?;
        scratch(SCRATCH, self.limits.scratch, "0700")
    }
}

/// Drops every capability within the task's namespaces, and the ways to get one back.
fn without_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let locked = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    set_capabilities_secure_bits(locked)?;
    for one in CapabilitySet::all().iter() {
        // one that this kernel does not know is in no set
        match remove_capability_from_bounding_set(one) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}
