//! A folder from somebody else: every name of a vault is a link, a pipe, a device, a folder or a second name of a file outside.
//! Whatever is done with it, and with whatever key, nothing outside changes and nothing hangs.

#[path = "bin/material.rs"]
#[allow(dead_code)] // the crash tests use the rest
mod material;
#[path = "hostile/scene.rs"]
mod scene;

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use aegis_vault::{Vault, VaultError};
use material::key;
use scene::*;
use uuid::Uuid;

/// Runs `work` on a thread of its own; what takes 30 s hangs.
fn bounded(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    let ended = wait.recv_timeout(Duration::from_secs(30));
    assert!(
        ended != Err(mpsc::RecvTimeoutError::Timeout),
        "{what}: hangs"
    );
    thread.join().unwrap_or_else(|_| panic!("{what}: panicked"));
}

fn unchanged(scene: &Scene, before: &Tree, what: &str) {
    let after = tree(&scene.outside());
    let gone: Vec<_> = before
        .iter()
        .filter(|(path, content)| after.get(*path) != Some(content))
        .map(|(path, _)| path.file_name().unwrap())
        .collect();
    assert!(gone.is_empty(), "{what}: changed outside: {gone:?}");
    assert_eq!(after.len(), before.len(), "{what}: new files outside");
}

#[test]
fn no_name_of_a_vault_leads_out_of_it_or_makes_anything_wait() {
    let template = template();
    let mut tries = 0;
    for name in template.names() {
        for trap in TRAPS {
            for what in ACTS {
                for wrong in [false, true] {
                    // A wrong key is refused at once: a few acts show it for all.
                    if wrong && !["open", "repair"].contains(&what) {
                        continue;
                    }
                    let scene = template.again();
                    if !scene.set(&name, trap) {
                        continue;
                    }
                    let before = tree(&scene.outside());
                    let text = format!("{} is {trap:?}, {what}, wrong key {wrong}", name.display());
                    let (vault, object) = (scene.vault(), scene.object);
                    bounded(&text, move || {
                        // Whether it works is not the question here.
                        let _ = act(&vault, object, wrong, what);
                    });
                    unchanged(&scene, &before, &text);
                    tries += 1;
                }
            }
        }
    }
    println!("hostile names: {tries} tries, nothing outside changed");
}

#[test]
fn a_folder_made_to_look_destroyed_deletes_nothing_that_is_not_provably_its_own() {
    let template = template();
    let declare = |scene: &Scene| {
        let about = scene.vault().join("vault.json");
        let mut value: serde_json::Value =
            serde_json::from_slice(&fs::read(&about).unwrap()).unwrap();
        value["destroyed"] = 1.into();
        fs::write(about, value.to_string()).unwrap();
        fs::write(scene.vault().join("journal/vault.destroy"), "00").unwrap();
    };
    // Without keystore and secret, as a crash leaves it, and links in every other place.
    for name in template.names() {
        for trap in TRAPS {
            for keyless in [false, true] {
                let scene = template.again();
                declare(&scene);
                if keyless {
                    fs::remove_file(scene.vault().join("keystore.akv")).unwrap();
                    fs::remove_file(scene.vault().join("epoch.key")).unwrap();
                }
                if !scene.set(&name, trap) {
                    continue;
                }
                let before = tree(&scene.outside());
                let text = format!(
                    "destroyed, keyless {keyless}, {} is {trap:?}",
                    name.display()
                );
                for what in ["open", "repair"] {
                    for wrong in [true, false] {
                        let (vault, object) = (scene.vault(), scene.object);
                        bounded(&text, move || {
                            let _ = act(&vault, object, wrong, what);
                        });
                    }
                }
                unchanged(&scene, &before, &text);
            }
        }
    }
    // The vault's own files go, a stranger's stay.
    let scene = template.again();
    declare(&scene);
    for gone in ["keystore.akv", "epoch.key"] {
        fs::remove_file(scene.vault().join(gone)).unwrap();
    }
    let id = scene.object;
    let shard = scene
        .vault()
        .join(format!("objects/{}", &id.to_string()[..2]));
    let mine = shard.join(format!("{id}.enc"));
    let foreign = shard.join(format!("{}.enc", Uuid::from_u128(5)));
    fs::write(&foreign, "of another vault").unwrap();
    fs::write(shard.join("letter.txt"), "of somebody").unwrap();
    assert!(matches!(
        Vault::open(&scene.vault(), &key(9)),
        Err(VaultError::VaultDestroyed { .. })
    ));
    assert!(!mine.exists());
    assert!(foreign.exists() && shard.join("letter.txt").exists());
}

#[test]
fn a_wrong_key_changes_not_a_byte_of_the_folder() {
    let template = template();
    for left in [
        "keystore.akv.tmp",
        "vault.json.tmp",
        "journal/x.tmp",
        "lock",
    ] {
        let scene = template.again();
        fs::write(scene.vault().join(left), "left").unwrap();
        let before = tree(&scene.vault());
        for what in ACTS {
            let error = act(&scene.vault(), scene.object, true, what).unwrap_err();
            assert_eq!(error.code(), "AEG-V006", "{what}");
        }
        assert_eq!(tree(&scene.vault()), before, "{left}");
    }
}

#[test]
fn traps_are_named_with_the_remedy() {
    let template = template();
    let scene = template.again();
    assert!(scene.set(Path::new("keystore.akv"), Trap::LinkToDevice));
    let error = Vault::open(&scene.vault(), &key(1)).unwrap_err();
    assert_eq!(error.code(), "AEG-V073");
    assert!(error.to_string().contains("keystore.akv"), "{error}");
    let pipe = template.again();
    assert!(pipe.set(Path::new("vault.json"), Trap::Pipe));
    let kind = fs::symlink_metadata(pipe.vault().join("vault.json")).unwrap();
    assert!(kind.file_type().is_fifo());
    let error = Vault::open(&pipe.vault(), &key(1)).unwrap_err();
    assert_eq!(error.code(), "AEG-V073", "{error}");
}
