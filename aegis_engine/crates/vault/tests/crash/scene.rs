//! Vaults to be killed in: a template for every seed, copied for every try.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use aegis_vault::{Meta, Vault};
use tempfile::TempDir;
use uuid::Uuid;

use crate::material::{content, key, store_records};
use crate::{on_sets, sets};

const KILLED: i32 = 9;

/// A folder `v` with a vault of one object to keep, two about one person, and a dataset; beside it what an operation reads
/// and writes outside.
pub struct Scene {
    dir: TempDir,
    /// Two objects about one person, a dataset.
    pub ids: [Uuid; 3],
    pub seed: u8,
    /// The epoch secret before.
    pub secret: Vec<u8>,
}

/// Memory by default: a killed process loses nothing that the system has accepted, so a disk would only be slower.
fn place() -> TempDir {
    let shm = Path::new("/dev/shm");
    let place = match std::env::var_os("AEGIS_CRASH_DIR") {
        Some(chosen) => PathBuf::from(chosen),
        None if shm.is_dir() => shm.to_path_buf(),
        None => std::env::temp_dir(),
    };
    tempfile::tempdir_in(place).unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Scene {
    /// What `operation` starts from.
    pub fn new(operation: &str, seed: u8) -> Self {
        let mut scene = Self {
            dir: place(),
            ids: [Uuid::nil(); 3],
            seed,
            secret: Vec::new(),
        };
        let folder = scene.folder();
        if operation == "create" {
            return scene;
        }
        let vault = Vault::create(&folder, &key(1)).unwrap();
        let store = |number: u8| {
            let meta = Meta {
                subject: (number > 0).then(|| "person".to_owned()),
                ..Meta::named(format!("object {number}"))
            };
            let mut writer = vault.writer_chunked(meta, 12).unwrap();
            writer.append(&content(seed, number)).unwrap();
            writer.finish().unwrap()
        };
        store(0);
        scene.ids = [
            store(1),
            store(2),
            store_records(&vault, "dataset", seed).unwrap(),
        ];
        if on_sets::OPERATIONS.contains(&operation) && operation != "drafts" {
            sets::store(&vault, sets::FIRST).unwrap();
        }
        scene.secret = fs::read(folder.join("epoch.key")).unwrap();
        if operation == "restore" {
            let backup = folder.with_extension("backup");
            vault.backup_keystore(&backup, &key(3)).unwrap();
            for lost in ["keystore.akv", "epoch.key", "vault.json"] {
                fs::remove_file(folder.join(lost)).unwrap();
            }
        }
        scene
    }

    /// The same once more, as it is on disk now.
    pub fn again(&self) -> Self {
        let dir = place();
        copy(self.dir.path(), dir.path());
        Self {
            dir,
            ids: self.ids,
            seed: self.seed,
            secret: self.secret.clone(),
        }
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("v")
    }

    pub fn command(&self, operation: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-vault-crash"));
        command
            .arg(self.folder())
            .args([operation, &self.seed.to_string()])
            .args(self.ids.map(|id| id.to_string()))
            .env_remove("AEGIS_FAIL_KILL")
            .env_remove("AEGIS_FAIL_LIST")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// The points that `operation` passes, `name:n` each. The scene is used up.
    pub fn points(self, operation: &str) -> (BTreeSet<String>, ExitStatus) {
        let list = self.dir.path().join("list");
        let ended = run(self.command(operation).env("AEGIS_FAIL_LIST", &list));
        // No file when not one point was passed.
        let text = fs::read_to_string(list).unwrap_or_default();
        (text.lines().map(str::to_owned).collect(), ended)
    }

    /// Whether `operation` was killed at `point`; false when it ended without passing it.
    pub fn kill_at(&self, operation: &str, point: &str) -> bool {
        let ended = run(self.command(operation).env("AEGIS_FAIL_KILL", point));
        assert!(
            ended.success() || killed(ended),
            "{operation} at {point} ended otherwise: {ended}"
        );
        killed(ended)
    }

    /// Declared before the crash, so that the next open has to go forward.
    pub fn declared(&self) -> bool {
        let folder = self.folder();
        let destroyed = fs::read_to_string(folder.join("vault.json"))
            .is_ok_and(|text| text.contains("destroyed"));
        destroyed
            || files(&folder.join("journal"))
                .iter()
                .any(|path| is_shred(path))
    }

    pub fn object_files(&self) -> usize {
        files(&self.folder().join("objects")).len()
    }

    /// Files that no finished operation leaves.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut all = files(&self.folder());
        all.retain(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".tmp") || name.ends_with(".next") || name.contains("/journal/")
        });
        all
    }

    pub fn modes_are_private(&self) -> bool {
        files(&self.folder()).iter().all(|file| {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            // Logs are appended by their own crate, in a folder nobody else enters.
            mode.trailing_zeros() >= 6
                || file.extension().is_some_and(|e| e == "log" || e == "json")
        })
    }
}

/// Starts a process; the system may be short of them for a moment (EAGAIN), which says nothing about the vault.
pub fn start(command: &mut Command) -> Child {
    for _ in 0..50 {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(200));
            }
            started => return started.unwrap(),
        }
    }
    panic!("no process can be started")
}

pub fn run(command: &mut Command) -> ExitStatus {
    start(command).wait().unwrap()
}

pub fn killed(ended: ExitStatus) -> bool {
    ended.signal() == Some(KILLED)
}

fn is_shred(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "shred")
}

/// All files below; none when there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}
