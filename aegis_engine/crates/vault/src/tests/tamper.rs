use std::path::PathBuf;

use super::*;
use crate::VaultError;

fn object(len: usize) -> (TempDir, Vault, Uuid, PathBuf, Vec<u8>) {
    let (dir, vault) = vault();
    let id = store(&vault, &noise(len));
    let path = vault.inner.paths.object(id);
    let bytes = fs::read(&path).unwrap();
    let path = path.path().to_path_buf();
    (dir, vault, id, path, bytes)
}

/// Every way in refuses, with the same class of error.
fn refused(vault: &Vault, id: Uuid) -> VaultError {
    let read = load(vault, id).expect_err("read");
    let verify = vault.verify(id).expect_err("verify");
    assert_eq!(read.code(), verify.code());
    verify
}

#[test]
fn every_bit_of_an_object_is_authenticated() {
    use std::os::unix::fs::FileExt;
    let (_dir, vault, id, path, bytes) = object(4096 + 500);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        let bad = bytes[at] ^ (1 << (bit % 8));
        file.write_all_at(&[bad], at as u64).unwrap();
        let error = vault.verify(id).expect_err("altered");
        match at {
            8..=10 | 12..=15 => assert!(
                matches!(error, VaultError::UnsupportedFormat { .. }),
                "byte {at}: {error}"
            ),
            0..4096 => assert!(
                matches!(error, VaultError::HeaderTampered { .. }),
                "byte {at}: {error}"
            ),
            _ => {
                let chunk = u64::from(at >= 4096 + 4096 + 16);
                let named = matches!(error, VaultError::ChunkAuthFailed { object, index } if object == id && index == chunk);
                assert!(named, "byte {at}: {error}");
            }
        }
        if bit % 512 == 0 {
            assert_eq!(refused(&vault, id).code(), error.code(), "byte {at}");
        }
        file.write_all_at(&[bytes[at]], at as u64).unwrap();
    }
    vault.verify(id).unwrap();
    println!(
        "tamper matrix: {} bits flipped, all refused",
        bytes.len() * 8
    );
}

#[test]
fn parts_of_other_objects_vaults_versions_and_names_are_refused() {
    let (_dir, vault, id, path, bytes) = object(3 * 4096);
    let (_other_dir, other) = super::vault();
    let foreign = {
        let id = store(&other, &noise(3 * 4096));
        fs::read(other.inner.paths.object(id)).unwrap()
    };
    let twin_id = store(&vault, &noise(3 * 4096));
    let twin = fs::read(vault.inner.paths.object(twin_id)).unwrap();
    let size = 4096 + 16;
    let at = |chunk: usize| 4096 + chunk * size..4096 + (chunk + 1) * size;
    let mut cases = 0;
    let mut check = |content: &[u8], wanted: &dyn Fn(&VaultError) -> bool, what: &str| {
        fs::write(&path, content).unwrap();
        let error = refused(&vault, id);
        assert!(wanted(&error), "{what}: {error}");
        cases += 1;
    };
    let chunk = |index: u64| move |error: &VaultError| matches!(error, VaultError::ChunkAuthFailed { index: i, .. } if *i == index);
    let header = |error: &VaultError| matches!(error, VaultError::HeaderTampered { .. });
    for (source, name) in [
        (&bytes, "own"),
        (&twin, "twin"),
        (&foreign, "foreign vault"),
    ] {
        for to in 0..3 {
            for from in 0..3 {
                if name == "own" && from == to {
                    continue;
                }
                let mut mixed = bytes.clone();
                mixed[at(to)].copy_from_slice(&source[at(from)]);
                check(
                    &mixed,
                    &chunk(to as u64),
                    &format!("{name}: chunk {from} as {to}"),
                );
            }
        }
        if name == "own" {
            continue;
        }
        let mut mixed = bytes.clone();
        mixed[..4096].copy_from_slice(&source[..4096]);
        check(&mixed, &header, &format!("header of {name}"));
        let mut mixed = bytes.clone();
        mixed[4096..].copy_from_slice(&source[4096..]);
        check(&mixed, &chunk(0), &format!("body of {name}"));
        check(source, &header, &format!("file of {name}"));
        // With the ids of the place it lies in, as a forger would write them.
        let mut mixed = source.clone();
        mixed[16..64].copy_from_slice(&bytes[16..64]);
        check(&mixed, &header, &format!("file of {name} with our ids"));
        mixed[96..128].copy_from_slice(&bytes[96..128]);
        check(
            &mixed,
            &header,
            &format!("file of {name} with our commitment"),
        );
    }
    let deleted = [&bytes[..at(0).start], &bytes[at(1)], &bytes[at(2)]].concat();
    check(
        &deleted,
        &|error| matches!(error, VaultError::Truncated { .. }),
        "deleted chunk",
    );
    let inserted = [&bytes[..at(1).start], &bytes[at(0)], &bytes[at(1).start..]].concat();
    check(
        &inserted,
        &|error| matches!(error, VaultError::TrailingData { .. }),
        "inserted chunk",
    );
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(
        matches!(refused(&vault, id), VaultError::Unfit { .. }),
        "a folder"
    );
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink(vault.inner.paths.object(twin_id), &path).unwrap();
    assert!(
        matches!(refused(&vault, id), VaultError::Unfit { .. }),
        "a link to another object"
    );
    println!("tamper matrix: {} splices refused", cases + 2);
}

#[test]
fn an_old_version_of_the_same_object_is_refused() {
    let (_dir, vault, old, path, before) = object(2 * 4096);
    // The format has no versions under one id: re-encryption gives a new one. What an attacker has is the old file, under
    // its own name or the new one's.
    let new = vault.reencrypt(old, None).unwrap();
    fs::write(&path, &before).unwrap();
    assert!(matches!(
        vault.verify(old),
        Err(VaultError::ObjectShredded { .. })
    ));
    fs::write(vault.inner.paths.object(new), &before).unwrap();
    assert!(matches!(
        refused(&vault, new),
        VaultError::HeaderTampered {
            reason: "object id",
            ..
        }
    ));
}

#[test]
fn every_truncation_and_every_appended_length_is_refused() {
    let (_dir, vault, id, path, bytes) = object(4096 + 500);
    for len in (0..bytes.len()).rev() {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = vault.verify(id).expect_err("truncated");
        assert!(
            matches!(error, VaultError::Truncated { found, .. } if found == len as u64),
            "length {len}: {error}"
        );
    }
    for extra in 1..=17 {
        let mut longer = bytes.clone();
        longer.extend(vec![0; extra]);
        fs::write(&path, &longer).unwrap();
        let error = refused(&vault, id);
        assert!(
            matches!(error, VaultError::TrailingData { extra: n, .. } if n == extra as u64),
            "{error}"
        );
    }
}

#[test]
fn swapped_duplicated_and_foreign_chunks_are_refused() {
    let (_dir, vault, id, path, bytes) = object(3 * 4096);
    let size = 4096 + 16;
    let at = |chunk: usize| 4096 + chunk * size..4096 + (chunk + 1) * size;
    let mut swapped = bytes.clone();
    swapped[at(0)].copy_from_slice(&bytes[at(1)]);
    swapped[at(1)].copy_from_slice(&bytes[at(0)]);
    fs::write(&path, swapped).unwrap();
    assert!(matches!(
        refused(&vault, id),
        VaultError::ChunkAuthFailed { index: 0, .. }
    ));
    let mut doubled = bytes.clone();
    doubled[at(2)].copy_from_slice(&bytes[at(1)]);
    fs::write(&path, doubled).unwrap();
    assert!(matches!(
        refused(&vault, id),
        VaultError::ChunkAuthFailed { index: 2, .. }
    ));
    // The same plaintext stored again: another key, so not even its own chunk fits.
    let twin = store(&vault, &noise(3 * 4096));
    let other = fs::read(vault.inner.paths.object(twin)).unwrap();
    let mut foreign = bytes.clone();
    foreign[at(1)].copy_from_slice(&other[at(1)]);
    fs::write(&path, foreign).unwrap();
    assert!(matches!(
        refused(&vault, id),
        VaultError::ChunkAuthFailed { index: 1, .. }
    ));
    let mut header = bytes.clone();
    header[..4096].copy_from_slice(&other[..4096]);
    fs::write(&path, header).unwrap();
    assert!(matches!(
        refused(&vault, id),
        VaultError::HeaderTampered {
            reason: "object id",
            ..
        }
    ));
    fs::write(&path, other).unwrap();
    assert!(matches!(
        refused(&vault, id),
        VaultError::HeaderTampered {
            reason: "object id",
            ..
        }
    ));
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        refused(&vault, id),
        VaultError::ObjectMissing { .. }
    ));
}

#[test]
fn a_failed_read_leaves_no_plaintext_in_the_buffer() {
    let (_dir, vault, id, path, mut bytes) = object(3 * 4096);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let reader = vault.reader(&owner(&vault, id), id).unwrap();
    let mut out = vec![7; 3 * 4096];
    assert!(matches!(
        reader.read_at(0, &mut out),
        Err(VaultError::ChunkAuthFailed { index: 2, .. })
    ));
    assert!(out.iter().all(|b| *b == 0));
    // The good chunks still read.
    assert_eq!(reader.read_at(0, &mut out[..4096]).unwrap(), 4096);
}

#[test]
fn a_file_cut_while_it_is_read_is_truncated_not_short() {
    let (_dir, vault, id, path, bytes) = object(3 * 4096);
    let reader = vault.reader(&owner(&vault, id), id).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(bytes.len() as u64 - 1)
        .unwrap();
    let mut out = vec![0; 3 * 4096];
    assert!(matches!(
        reader.read_at(0, &mut out),
        Err(VaultError::Truncated { .. })
    ));
}

#[test]
fn verify_all_names_the_broken_object_and_goes_on() {
    let (_dir, vault) = vault();
    let ids: Vec<Uuid> = (0..3).map(|n| store(&vault, &noise(100 + n))).collect();
    let path = vault.inner.paths.object(ids[1]);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut seen = 0;
    let all = vault.verify_all(Some(&mut |_, _| seen += 1)).unwrap();
    assert_eq!((all.len(), seen), (3, 3));
    for (id, result) in all {
        assert_eq!(result.is_err(), id == ids[1]);
    }
}
