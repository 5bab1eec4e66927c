//! A folder with traps in it, what can be done with it, and what was outside before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use aegis_policy::Action;
use aegis_vault::{FsckOptions, Meta, Vault, VaultError};
use uuid::Uuid;

use crate::material::{key, store_records};

/// Contents and modes of all that is in a folder; links are not followed.
pub type Tree = BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>;

pub fn tree(folder: &Path) -> Tree {
    let mut all = Tree::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let bytes = about.is_file().then(|| fs::read(&path).unwrap());
        if about.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                left.push(entry.unwrap().path());
            }
        }
        all.insert(path, (about.mode(), bytes));
    }
    all
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// What may lie where a name of the vault is expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trap {
    /// A link to a copy of the real thing, outside.
    LinkToCopy,
    /// A link to a file, or a folder with files, of somebody else.
    LinkToTheirs,
    LinkToNothing,
    LinkToDevice,
    Pipe,
    Folder,
    /// A second name of a copy of the real file, outside.
    HardLinkToCopy,
    /// A second name of somebody else's file.
    HardLinkToTheirs,
}

pub const TRAPS: [Trap; 8] = [
    Trap::LinkToCopy,
    Trap::LinkToTheirs,
    Trap::LinkToNothing,
    Trap::LinkToDevice,
    Trap::Pipe,
    Trap::Folder,
    Trap::HardLinkToCopy,
    Trap::HardLinkToTheirs,
];

pub struct Scene {
    pub dir: tempfile::TempDir,
    pub object: Uuid,
}

impl Scene {
    pub fn vault(&self) -> PathBuf {
        self.dir.path().join("v")
    }
    pub fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Replaces `name` of the vault; false when it has no such trap.
    pub fn set(&self, name: &Path, trap: Trap) -> bool {
        let (inside, copied) = (self.vault().join(name), self.outside().join("copy"));
        let real = fs::symlink_metadata(&inside).ok();
        let is_dir = real.as_ref().is_some_and(fs::Metadata::is_dir);
        fs::create_dir_all(self.outside().join("theirs/aa")).unwrap();
        for theirs in [
            "file",
            "theirs/users.tmp",
            "theirs/vault.destroy",
            "theirs/000001.log",
            "theirs/aa/letter.enc",
        ] {
            fs::write(self.outside().join(theirs), "precious\n".repeat(50)).unwrap();
        }
        if is_dir {
            copy(&inside, &copied);
        } else if real.is_some() {
            fs::copy(&inside, &copied).unwrap();
        }
        match (is_dir, &real) {
            (true, _) => fs::remove_dir_all(&inside).unwrap(),
            (false, Some(_)) => fs::remove_file(&inside).unwrap(),
            (false, None) => fs::create_dir_all(inside.parent().unwrap()).unwrap(),
        }
        let theirs = |folder: bool| self.outside().join(if folder { "theirs" } else { "file" });
        match trap {
            Trap::LinkToCopy if real.is_none() => return false,
            Trap::LinkToCopy => symlink(&copied, &inside).unwrap(),
            Trap::LinkToTheirs => symlink(theirs(is_dir), &inside).unwrap(),
            Trap::LinkToNothing => symlink(self.outside().join("nothing"), &inside).unwrap(),
            Trap::LinkToDevice => symlink("/dev/zero", &inside).unwrap(),
            Trap::Pipe => rustix::fs::mknodat(
                rustix::fs::CWD,
                &inside,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap(),
            Trap::Folder | Trap::HardLinkToCopy | Trap::HardLinkToTheirs if is_dir => return false,
            Trap::Folder => copy(&self.outside().join("theirs"), &inside),
            Trap::HardLinkToCopy if real.is_none() => return false,
            Trap::HardLinkToCopy => fs::hard_link(&copied, &inside).unwrap(),
            Trap::HardLinkToTheirs => fs::hard_link(theirs(false), &inside).unwrap(),
        }
        true
    }
}

/// All that can be done with a folder.
pub fn act(vault: &Path, object: Uuid, wrong: bool, what: &str) -> Result<(), VaultError> {
    let key = if wrong { key(2) } else { key(1) };
    let open = || Vault::open(vault, &key);
    let check = |repair| {
        let options = FsckOptions {
            repair,
            ..FsckOptions::default()
        };
        Vault::fsck(vault, &key, options).map(drop)
    };
    match what {
        "open" => open().map(drop),
        "fsck" => check(false),
        "repair" => check(true),
        "list" => open()?.list().map(drop),
        "read" => {
            let opened = open()?;
            let permit = opened.owner_permit(object, Action::Read)?;
            let reader = opened.reader(&std::sync::Arc::new(permit), object)?;
            reader.read_at(0, &mut [0; 10]).map(drop)
        }
        "verify" => open()?.verify(object).map(drop),
        "store" => open()?.store_bytes(b"new", Meta::named("new")).map(drop),
        "rename" => open()?.rename(object, "other"),
        "shred" => open()?.shred(object, None).map(drop),
        "reencrypt" => open()?.reencrypt(object, None).map(drop),
        "rotate" => open()?.rotate(None).map(drop),
        "destroy" => open()?.destroy(None).map(drop),
        other => panic!("no act {other}"),
    }
}

pub const ACTS: [&str; 12] = [
    "open",
    "fsck",
    "repair",
    "list",
    "read",
    "verify",
    "store",
    "rename",
    "shred",
    "reencrypt",
    "rotate",
    "destroy",
];

pub fn template() -> Scene {
    let dir = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() {
        "/dev/shm".into()
    } else {
        std::env::temp_dir()
    })
    .unwrap();
    let vault = Vault::create(&dir.path().join("v"), &key(1)).unwrap();
    let object = vault.store_bytes(b"ours", Meta::named("ours")).unwrap();
    store_records(&vault, "rows", 1).unwrap();
    vault.consent().unwrap().grant([1; 16], "research").unwrap();
    Scene { dir, object }
}

impl Scene {
    pub fn again(&self) -> Self {
        let dir = tempfile::tempdir_in(self.dir.path().parent().unwrap()).unwrap();
        copy(&self.vault(), &dir.path().join("v"));
        for (path, _) in tree(&dir.path().join("v")) {
            let mode = if path.is_dir() { 0o700 } else { 0o600 };
            let wanted = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(path, wanted).unwrap();
        }
        Self {
            dir,
            object: self.object,
        }
    }

    /// Every name there is, and every one that only an operation or a crash makes.
    pub fn names(&self) -> Vec<PathBuf> {
        let vault = self.vault();
        let mut all: Vec<PathBuf> = tree(&vault)
            .into_keys()
            .filter(|path| *path != vault)
            .map(|path| path.strip_prefix(&vault).unwrap().to_path_buf())
            .collect();
        let id = self.object;
        let shard = &id.to_string()[..2];
        all.extend(
            [
                "vault.json.tmp".to_owned(),
                "keystore.akv.tmp".to_owned(),
                "epoch.key.tmp".to_owned(),
                "epoch.key.next".to_owned(),
                "lost+found".to_owned(),
                "audit/000001.new".to_owned(),
                "consent/000001.new".to_owned(),
                format!("objects/{shard}/{id}.enc.tmp"),
                "objects/.DS_Store".to_owned(),
                "journal/vault.destroy".to_owned(),
                "journal/vault.destroy.tmp".to_owned(),
            ]
            .map(PathBuf::from),
        );
        let kinds = ["store", "stores", "shred", "shred.tmp", "reencrypt"];
        all.extend(kinds.map(|kind| PathBuf::from(format!("journal/{id}.{kind}"))));
        all
    }
}
