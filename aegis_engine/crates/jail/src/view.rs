//! The view: a file system of named paths, read-only. What is not named is not there.
#![allow(unsafe_code)] // mount_setattr(2), which rustix has not

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::pivot_root;

use crate::namespaces::{die_with_parent, has_left, one_thread};
use crate::{JailError, Layer};

/// Where the new root is put together. It exists everywhere, and disappears with the old root.
const BENCH: &str = "/tmp";
/// The private scratch folder, as an app sees it; `/tmp` leads there, unless a named path lies in that.
pub(crate) const SCRATCH: &str = "/scratch";
/// What numerical libraries open: nothing of it tells of the host's processes or files.
pub(crate) const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"];
/// Read for the number and kind of cores; constant facts of the machine.
pub(crate) const FACTS: [&str; 2] = ["/proc/cpuinfo", "/sys/devices/system/cpu"];

/// What the tasks of a jail can see.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Files and folders, by absolute paths; all below a folder is readable.
    pub readable: Vec<PathBuf>,
}

impl View {
    /// Makes the named paths this process's whole file system, read-only, below the same names.
    ///
    /// Guarantees:
    /// - Nothing else of the host can be named, whatever its permissions: there is no path to it, and no descriptor is kept.
    /// - `/proc` and `/sys` have the processors' facts and nothing else; `/dev` four devices; the scratch folder is empty.
    ///
    /// # Errors
    ///
    /// A path is not there, or the kernel refuses a mount.
    pub fn build(&self) -> Result<(), JailError> {
        one_thread()?;
        has_left()?;
        die_with_parent()?;
        let failed = |what| JailError::layer(Layer::View, what);
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .map_err(io::Error::from)
        .map_err(failed("making the mounts private"))?;
        let optional = DEVICES
            .iter()
            .chain(&FACTS)
            .filter(|path| Path::new(path).exists())
            .map(PathBuf::from);
        let named = outermost(self.readable.iter().cloned().chain(optional).collect());
        let trees: Vec<(PathBuf, OwnedFd, bool)> = named
            .into_iter()
            .map(|path| opened(&path).map(|(fd, folder)| (path, fd, folder)))
            .collect::<Result<_, _>>()?;
        scratch(BENCH, 1 << 20, "0755").map_err(failed("a file system in memory"))?;
        for (path, tree, folder) in &trees {
            let target = Path::new(BENCH).join(path.strip_prefix("/").unwrap_or(path));
            placed(&target, tree, *folder).map_err(failed("binding a path read-only"))?;
        }
        fs::create_dir(Path::new(BENCH).join("scratch")).map_err(failed("a scratch folder"))?;
        if !Path::new(BENCH).join("tmp").exists() {
            symlink(SCRATCH, Path::new(BENCH).join("tmp")).map_err(failed("a scratch folder"))?;
        }
        std::env::set_current_dir(BENCH).map_err(failed("chdir(2)"))?;
        pivot_root(".", ".")
            .map_err(io::Error::from)
            .map_err(failed("pivot_root(2)"))?;
        unmount(".", UnmountFlags::DETACH)
            .map_err(io::Error::from)
            .map_err(failed("letting the old root go"))?;
        std::env::set_current_dir("/").map_err(failed("chdir(2)"))?;
        read_only(CWD.as_fd().as_raw_fd(), c"/", false).map_err(failed("a root that is read-only"))
    }
}

/// Without what lies below another one, and without names that lead elsewhere.
fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths.dedup();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    kept
}

/// A copy of the mounts at a path, not yet anywhere; and whether it is a folder.
fn opened(path: &Path) -> Result<(OwnedFd, bool), JailError> {
    let wrong = |source| JailError::Path {
        path: path.display().to_string(),
        source,
    };
    let folder = fs::metadata(path).map_err(wrong)?.is_dir();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
        .map(|fd| (fd, folder))
        .map_err(|e| wrong(e.into()))
}

fn placed(target: &Path, tree: &OwnedFd, folder: bool) -> io::Result<()> {
    if folder {
        fs::create_dir_all(target)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(Path::new("/")))?;
        fs::File::create(target)?;
    }
    read_only(tree.as_raw_fd(), c"", true)?;
    move_mount(
        tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}

/// A file system in memory, of at most so many bytes.
pub(crate) fn scratch(at: &str, bytes: u64, mode: &str) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = CString::new(format!("size={bytes},nr_inodes=4096,mode={mode}"))?;
    Ok(mount("tmpfs", at, "tmpfs", flags, options.as_c_str())?)
}

/// `mount_setattr(2)`: only sets flags, so what the host had set stays; a remount would have to name them all.
fn read_only(folder: i32, path: &std::ffi::CStr, below: bool) -> io::Result<()> {
    let attributes = libc::mount_attr {
        // Access times stay as the host has them: in a user namespace the kernel locks that flag (mount_setattr(2)).
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let recursive = if below { libc::AT_RECURSIVE } else { 0 };
    let flags = recursive
        | if path.is_empty() {
            libc::AT_EMPTY_PATH
        } else {
            0
        };
    // SAFETY: the path ends with a zero, the structure is of the size that is named, and both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_another_is_bound_once() {
        let paths = ["/usr/lib", "/usr", "/usr", "/usrx", "/etc/a"]
            .map(PathBuf::from)
            .to_vec();
        assert_eq!(
            outermost(paths),
            ["/etc/a", "/usr", "/usrx"].map(PathBuf::from).to_vec()
        );
    }
}
