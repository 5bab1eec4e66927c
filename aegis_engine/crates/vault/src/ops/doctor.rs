//! What the machine does to the promises of a vault.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::format::paths::About;
use crate::format::paths::Paths;

/// One fact about the machine or the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What was looked at.
    pub topic: &'static str,
    /// What was found.
    pub found: String,
    /// What it weakens and what to do about it; none when it is as it should be.
    pub risk: Option<String>,
}

/// File systems that write elsewhere instead of overwriting.
fn copy_on_write(magic: i64) -> Option<&'static str> {
    Some(match magic {
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0x5846_5342 => "xfs with reflinks",
        0x794c_7630 => "overlayfs",
        0xca45_1a4e => "bcachefs",
        0x6969 => "nfs",
        _ => return None,
    })
}

fn filesystem(root: &Path) -> Fact {
    let topic = "file system";
    let magic = rustix::fs::statfs(root).map(|about| about.f_type);
    match magic {
        Ok(magic) => {
            let known = [
                (0xef53, "ext4"),
                (0x0102_1994, "tmpfs"),
                (0x5346_544e, "ntfs"),
                (0x4d44, "fat"),
            ];
            if let Some(name) = copy_on_write(magic) {
                return Fact {
                    topic,
                    found: name.to_owned(),
                    risk: Some(format!(
                        "the vault lies on {name}: overwriting in place may write to other blocks"
                    )),
                };
            }
            let name = known.iter().find(|(number, _)| *number == magic);
            Fact {
                topic,
                found: name.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned()),
                risk: None,
            }
        }
        Err(_) => Fact {
            topic,
            found: "unknown".to_owned(),
            risk: Some(
                "the file system cannot be told: overwriting in place may not reach old blocks"
                    .to_owned(),
            ),
        },
    }
}

fn swap() -> Fact {
    let on = fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1);
    Fact {
        topic: "swap",
        found: if on { "on" } else { "off" }.to_owned(),
        risk: on.then(|| {
            "swap is on: pages of keys above the lock limit and of plaintext may have been written to it; swapoff, or \
             encrypt the swap"
                .to_owned()
        }),
    }
}

fn disk(root: &Path) -> Option<Fact> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(root).ok()?.dev();
    // makedev(3) of Linux.
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    let whole = format!("/sys/dev/block/{major}:{minor}/queue/rotational");
    let part = format!("/sys/dev/block/{major}:{minor}/../queue/rotational");
    let text = fs::read_to_string(whole)
        .or_else(|_| fs::read_to_string(part))
        .ok()?;
    let rotates = text.trim() == "1";
    Some(Fact {
        topic: "disk",
        found: if rotates { "rotating, or a virtual disk that says so" } else { "solid state" }.to_owned(),
        risk: (!rotates).then(|| {
            "spare blocks of a solid-state disk may keep old blocks of epoch.key; a token or key service avoids it".to_owned()
        }),
    })
}

fn hibernation() -> Option<Fact> {
    let states = fs::read_to_string("/sys/power/state").ok()?;
    let can = states.split_whitespace().any(|state| state == "disk");
    Some(Fact {
        topic: "hibernation",
        found: if can { "possible" } else { "not offered" }.to_owned(),
        risk: can.then(|| {
            "hibernating writes all memory to the disk; do not, while a vault is open".to_owned()
        }),
    })
}

fn core_dumps() -> Fact {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core).current;
    let off = limit == Some(0);
    Fact {
        topic: "core dumps",
        found: match limit {
            Some(0) => "off".to_owned(),
            Some(bytes) => format!("up to {bytes} bytes"),
            None => "on".to_owned(),
        },
        risk: (!off).then(|| {
            "buffers and keys of the engine are left out of core dumps, copies made by Python or torch are not; ulimit -c \
             0, or harden_process()"
                .to_owned()
        }),
    }
}

fn locked_memory() -> Fact {
    let limit = aegis_memory::locked_limit();
    let small = limit.is_some_and(|bytes| bytes < 1 << 20);
    Fact {
        topic: "locked memory",
        found: limit.map_or_else(
            || "no limit".to_owned(),
            |bytes| format!("up to {} KiB", bytes >> 10),
        ),
        risk: small.then(|| "fewer than 16 384 keys stay out of swap; raise ulimit -l".to_owned()),
    }
}

/// Facts about the machine, and about the vault or folder at `root`, with what each weakens.
pub fn doctor(root: &Path) -> Vec<Fact> {
    let mut all = vec![filesystem(root)];
    all.extend(disk(root));
    all.push(swap());
    all.extend(hibernation());
    all.push(core_dumps());
    all.push(locked_memory());
    if let Ok(about) = Paths::open(root).and_then(|paths| About::read(&paths)) {
        let level = match about.provider.as_str() {
            "pkcs11" => "hardware",
            "kms" => "kms",
            _ => "ratcheted-file",
        };
        all.push(Fact {
            topic: "key provider",
            found: about.provider,
            risk: None,
        });
        all.push(Fact {
            topic: "shred level",
            found: level.to_owned(),
            risk: (level == "ratcheted-file").then(|| {
                "shredding overwrites epoch.key on this disk; copies of it (backups, snapshots) are not reached".to_owned()
            }),
        });
    }
    all
}

/// What a shred does not reach on this machine, for its receipt.
pub(crate) fn caveats(root: &Path) -> Vec<String> {
    let mut all = vec![
        "copies of epoch.key outside this folder (backups, snapshots) are not reached".to_owned(),
        "spare blocks of a solid-state disk and journals may keep old blocks of epoch.key".to_owned(),
        "the source the object was imported from, exports, models and running trainers are not reached".to_owned(),
    ];
    all.extend(
        [filesystem(root), swap()]
            .into_iter()
            .filter_map(|fact| fact.risk),
    );
    all
}
