//! There is one door to the vault's folder: `aegis_folder`, through `system/files.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may name the file system's own functions, and why.
const ALLOWED: [(&str, &str); 6] = [
    ("system/files.rs", "what `aegis_folder` opened, as a type"),
    ("system/outside.rs", "files that are not the vault's"),
    ("ops/doctor.rs", "/proc and /sys"),
    ("system/failpoint.rs", "the crash tests' list of points"),
    ("keys/provider/file.rs", "key files"),
    ("ops/bench.rs", "its own measurements"),
];
/// What opens, makes, changes or looks at a path.
const FORBIDDEN: [&str; 16] = [
    "std::fs::{self",
    "use std::fs;",
    "fs::read",
    "fs::write",
    "fs::remove",
    "fs::rename",
    "fs::copy",
    "fs::metadata",
    "fs::symlink_metadata",
    "fs::set_permissions",
    "fs::create_dir",
    "File::open",
    "File::create",
    "OpenOptions",
    "DirBuilder",
    "rustix::fs::open",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn strangers(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.len() > 5, "{}", root.display());
    let mut found = Vec::new();
    for file in files {
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let free = ALLOWED.iter().any(|(allowed, _)| *allowed == name)
            || name.starts_with("tests")
            || name.starts_with("fuzzing");
        let text = fs::read_to_string(&file).unwrap();
        // Unit tests act as somebody else.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (number, line) in (1..).zip(code.lines()) {
            // `ObjectFile::open` is another one.
            let line = line.replace("ObjectFile::", "");
            let used = FORBIDDEN.iter().find(|word| line.contains(**word));
            if let (Some(word), false) = (used, free) {
                found.push(format!("{name}:{number} uses {word}"));
            }
        }
    }
    found
}

#[test]
fn no_function_reaches_the_vaults_folder_by_a_path() {
    let vault = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(strangers(&vault), [] as [String; 0]);
    let audit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../audit/src");
    assert_eq!(strangers(&audit), [] as [String; 0]);
}
