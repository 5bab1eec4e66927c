//! Landlock: which files may be read and written, no TCP, no signal or abstract socket beyond the task.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::io;
use std::path::{Path, PathBuf};

use crate::view::{DEVICES, FACTS, SCRATCH};
use crate::{JailError, Layer};

/// The least that is accepted: files, truncation, devices' ioctl, TCP, signals, abstract sockets (Linux 6.12).
const LEAST: ABI = ABI::V6;

/// Restricts this process to reading `readable` and to reading and writing plain files in the scratch folder.
pub(crate) fn apply(readable: &[PathBuf]) -> Result<(), JailError> {
    let status = restricted(readable).map_err(|e| {
        JailError::layer(Layer::Landlock, "Landlock of ABI 6 (Linux 6.12)")(io::Error::other(
            e.to_string(),
        ))
    })?;
    if status == RulesetStatus::FullyEnforced {
        return Ok(());
    }
    Err(JailError::layer(
        Layer::Landlock,
        "a ruleset that is fully enforced",
    )(io::Error::other(format!("{status:?}"))))
}

fn restricted(readable: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .handle_access(AccessNet::from_all(LEAST))?
        .scope(Scope::from_all(LEAST))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let scratch = read
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
        | AccessFs::Truncate;
    for path in readable {
        let Ok(parent) = PathFd::new(path) else {
            continue;
        }; // not there: nothing to allow
        let access = if path.is_dir() {
            read
        } else {
            AccessFs::ReadFile.into()
        };
        rules = rules.add_rule(PathBeneath::new(parent, access))?;
    }
    for path in DEVICES {
        let Ok(parent) = PathFd::new(path) else {
            continue;
        };
        let both = AccessFs::ReadFile | AccessFs::WriteFile;
        rules = rules.add_rule(PathBeneath::new(parent, both))?;
    }
    for path in FACTS {
        let Ok(parent) = PathFd::new(path) else {
            continue;
        };
        let access = if Path::new(path).is_dir() {
            read
        } else {
            AccessFs::ReadFile.into()
        };
        rules = rules.add_rule(PathBeneath::new(parent, access))?;
    }
    if let Ok(parent) = PathFd::new(SCRATCH) {
        rules = rules.add_rule(PathBeneath::new(parent, scratch))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}
