//! Names: the same rules for store and rename, one live object a name; old vaults stay readable and are told apart by id.

use super::*;
use crate::format::keystore::Entry;
use crate::{Item, StoreOptions, VaultError};

fn bytes(vault: &Vault, name: &str) -> Result<Uuid> {
    vault.store_bytes(name.as_bytes(), Meta::named(name))
}

/// A data set of that name.
fn set(vault: &Vault, name: &str) -> Uuid {
    let (set, ..) = records::dataset(vault);
    vault.rename(set, name).unwrap();
    set
}

/// As a version from before the rules left it: whatever name, or only the one in the header.
fn force(vault: &Vault, object: Uuid, name: Option<&str>) {
    let mut exclusive = vault.inner.exclusive().unwrap();
    let mut record = exclusive.live(object).unwrap();
    record.name = name.map(str::to_owned);
    exclusive.put(object, Entry::Live(Box::new(record)));
    exclusive.commit().unwrap();
    exclusive.done().unwrap();
}

#[test]
fn store_and_rename_take_the_same_names() {
    let (_dir, vault) = vault();
    let object = bytes(&vault, "object").unwrap();
    let longest = "n".repeat(1024);
    for good in [
        " ",
        ".",
        "..",
        "a/b",
        "Müller 測定 🩺",
        "\u{202f}x",
        "a\u{200d}b",
        &longest,
    ] {
        let stored = bytes(&vault, good).unwrap();
        assert_eq!(vault.stat(stored).unwrap().name, good);
        vault.shred(stored, None).unwrap();
        vault.rename(object, good).unwrap();
    }
    let long = "n".repeat(1025);
    let bad = [
        "",
        &long,
        "a\0b",
        "a\nb",
        "a\rb",
        "a\tb",
        "\x1b[2J",
        "\x7f",
        "\u{9b}2J",
        "gnp\u{202e}exe",
        "\u{2066}x",
        "a\u{2028}b",
        "a\u{2029}b",
    ];
    for bad in bad {
        let refused = [
            bytes(&vault, bad).unwrap_err(),
            vault.rename(object, bad).unwrap_err(),
            vault.writer(Meta::named(bad)).err().unwrap(),
            vault
                .store_many(
                    &[(Item::Bytes(b"x"), Meta::named(bad))],
                    StoreOptions::default(),
                )
                .unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.code(), "AEG-V023", "{bad:?}");
            assert!(
                !error
                    .to_string()
                    .chars()
                    .any(|c| c.is_control() || c == '\u{202e}')
            );
        }
    }
}

#[test]
fn a_dataset_has_its_name_alone_and_a_shredded_one_gives_it_back() {
    let (_dir, vault) = vault();
    let first = set(&vault, "a");
    let plain = bytes(&vault, "b").unwrap();
    let second = set(&vault, "other");
    for error in [
        bytes(&vault, "a").unwrap_err(),
        vault.rename(plain, "a").unwrap_err(),
        vault.rename(second, "a").unwrap_err(),
    ] {
        assert!(
            matches!(error, VaultError::NameTaken { object, .. } if object == first),
            "{error}"
        );
    }
    assert!(
        matches!(vault.rename(second, "b"), Err(VaultError::NameTaken { object, .. }) if object == plain)
    );
    vault.rename(first, "a").unwrap();
    let first = vault.reencrypt(first, None).unwrap();
    assert!(bytes(&vault, "a").is_err(), "the new object has it");
    vault.rename(first, "c").unwrap();
    vault.rename(second, "a").unwrap();
    vault.shred(second, None).unwrap();
    bytes(&vault, "a").unwrap();
    // Another process sees the same.
    let other = Vault::open(vault.path(), &provider()).unwrap();
    assert!(
        matches!(bytes(&other, "c"), Err(VaultError::NameTaken { object, .. }) if object == first)
    );
    // A writer that began before the dataset had the name is refused when it finishes.
    let mut late = other.writer(Meta::named("late")).unwrap();
    late.append(b"1").unwrap();
    set(&vault, "late");
    assert!(matches!(late.finish(), Err(VaultError::NameTaken { .. })));
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
}

#[test]
fn plain_objects_may_share_a_name() {
    let (_dir, vault) = vault();
    let (one, two) = (bytes(&vault, "x").unwrap(), bytes(&vault, "x").unwrap());
    assert_ne!(one, two);
    let three = bytes(&vault, "y").unwrap();
    vault.rename(three, "x").unwrap();
    assert_eq!(load(&vault, two).unwrap(), b"x");
}

#[test]
fn a_name_that_only_the_header_has_is_taken_too_and_is_learned_once() {
    let (_dir, vault) = vault();
    let old = set(&vault, "old");
    // The header of the shared material has another name than the rename gave.
    force(&vault, old, None);
    let other = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(other.inner.known().body.unnamed(), 1);
    let name = other.stat(old).unwrap().name;
    assert!(
        matches!(bytes(&other, &name), Err(VaultError::NameTaken { object, .. }) if object == old)
    );
    bytes(&other, "new").unwrap();
    assert_eq!(other.inner.known().body.unnamed(), 0);
    assert_eq!(other.stat(old).unwrap().name, name);
}

#[test]
fn two_objects_of_one_name_in_an_old_vault_are_an_error_with_both_ids() {
    let (_dir, vault) = vault();
    let set = set(&vault, "patients");
    let plain = bytes(&vault, "plain").unwrap();
    assert_eq!(vault.datasets().unwrap()["patients"], set);
    force(&vault, plain, Some("patients"));
    let error = vault.datasets().unwrap_err();
    assert_eq!(error.code(), "AEG-V076");
    for id in [set, plain] {
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    assert!(matches!(
        bytes(&vault, "patients"),
        Err(VaultError::NameTaken { .. })
    ));
    vault.shred(plain, None).unwrap();
    assert_eq!(vault.datasets().unwrap()["patients"], set);
    assert!(
        matches!(bytes(&vault, "patients"), Err(VaultError::NameTaken { object, .. }) if object == set)
    );
}

#[test]
fn governance_rows_have_no_name_of_their_own() {
    let (_dir, vault) = vault();
    let set = set(&vault, "patients");
    let rows = vault.inner.known().body.live(set).unwrap().rows.unwrap();
    assert_eq!(vault.rename(rows, "x").unwrap_err().code(), "AEG-V023");
}

#[test]
fn a_file_whose_name_is_not_utf_8_needs_a_name_and_sizes_that_lie_are_not_believed() {
    use std::os::unix::ffi::OsStrExt;
    let (dir, vault) = vault();
    let file = dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::write(&file, b"x").unwrap();
    let store = |path: &Path, meta| vault.store_file(path, meta, StoreOptions::default());
    assert_eq!(
        store(&file, Meta::default()).unwrap_err().code(),
        "AEG-V023"
    );
    store(&file, Meta::named("café")).unwrap();
    let many = [(Item::File(&file), Meta::default())];
    assert_eq!(
        vault
            .store_many(&many, StoreOptions::default())
            .unwrap_err()
            .code(),
        "AEG-V023"
    );
    // Says 4096 bytes and has a few.
    let made_up = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    let made_up = if made_up.exists() {
        made_up
    } else {
        Path::new("/proc/version")
    };
    let id = store(made_up, Meta::named("made up")).unwrap();
    assert_eq!(load(&vault, id).unwrap(), fs::read(made_up).unwrap());
}

#[test]
fn a_rename_changes_the_name_and_no_byte_of_the_file() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let file = fs::read(vault.inner.paths.object(id)).unwrap();
    vault.rename(id, "nouveau é.csv").unwrap();
    let again = Vault::open(vault.path(), &provider()).unwrap();
    assert_eq!(again.stat(id).unwrap().name, "nouveau é.csv");
    assert_eq!(again.list().unwrap()[0].name, "nouveau é.csv");
    assert_eq!(fs::read(vault.inner.paths.object(id)).unwrap(), file);
    assert_eq!(load(&again, id).unwrap(), b"x");
    for bad in ["", &"n".repeat(1025)] {
        assert!(matches!(
            vault.rename(id, bad),
            Err(VaultError::BadRequest { .. })
        ));
    }
    assert!(matches!(
        vault.rename(Uuid::nil(), "n"),
        Err(VaultError::ObjectNotFound { .. })
    ));
}
