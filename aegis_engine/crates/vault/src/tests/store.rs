use std::io::{Read, Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::*;
use crate::StoreOptions;
use crate::VaultError;

#[test]
fn sizes_around_chunk_edges_come_back_bit_for_bit() {
    let (_dir, vault) = vault();
    for len in [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 20000] {
        let data = noise(len);
        let id = store(&vault, &data);
        assert_eq!(load(&vault, id).unwrap(), data, "length {len}");
        let info = vault.stat(id).unwrap();
        assert_eq!(
            (info.bytes, info.chunks),
            (len as u64, (len as u64).div_ceil(4096).max(1)),
            "length {len}"
        );
        assert_eq!(vault.verify(id).unwrap().bytes, len as u64);
        let file = fs::metadata(vault.inner.paths.object(id)).unwrap().len();
        assert_eq!(file, 4096 + len as u64 + 16 * info.chunks, "length {len}");
    }
}

#[test]
fn a_file_streams_in_and_is_listed_with_its_name() {
    let (dir, vault) = vault();
    let source = dir.path().join("finance_data.csv");
    let data = noise(3 * (1 << 20) + 7);
    fs::write(&source, &data).unwrap();
    let mut seen = 0;
    let mut progress = |bytes| {
        seen = bytes;
        true
    };
    let options = StoreOptions {
        progress: Some(&mut progress),
        ..StoreOptions::default()
    };
    let id = vault.store_file(&source, Meta::default(), options).unwrap();
    assert_eq!(seen, data.len() as u64);
    assert_eq!(load(&vault, id).unwrap(), data);
    let list = vault.list().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].name.as_str(), list[0].chunks),
        ("finance_data.csv", 4)
    );
    let shard = format!("objects/{}/{id}.enc", &id.to_string()[..2]);
    assert!(vault.path().join(shard).is_file());
}

#[test]
fn metadata_survives_a_reopen() {
    let (_dir, vault) = vault();
    let meta = Meta {
        name: "ü".into(),
        media_type: "text/csv".into(),
        subject: Some("person 1".into()),
        attrs: [("a".to_owned(), "b".to_owned())].into(),
    };
    let id = vault.store_bytes(b"x", meta.clone()).unwrap();
    let info = Vault::open(vault.path(), &provider())
        .unwrap()
        .stat(id)
        .unwrap();
    assert_eq!(
        (info.name, info.media_type, info.subject, info.attrs),
        (meta.name, meta.media_type, meta.subject, meta.attrs)
    );
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let (_dir, vault) = vault();
    let mut writer = vault.writer(unused()).unwrap();
    writer.write_all(&noise(100)).unwrap();
    let id = writer.id();
    assert!(vault.inner.paths.object_tmp(id).exists());
    drop(writer);
    assert!(!vault.inner.paths.object_tmp(id).exists());
    assert!(!vault.inner.paths.store_intent(id).exists());
    assert!(vault.list().unwrap().is_empty());
    assert!(matches!(
        vault.stat(id),
        Err(VaultError::ObjectNotFound { .. })
    ));
}

#[test]
fn a_live_writer_survives_another_open() {
    let (_dir, vault) = vault();
    let mut writer = vault.writer(unused()).unwrap();
    writer.write_all(b"abc").unwrap();
    // Opening rolls the journal, but must see that this writer lives.
    Vault::open(vault.path(), &provider()).unwrap();
    let id = writer.finish().unwrap();
    assert_eq!(load(&vault, id).unwrap(), b"abc");
}

#[test]
fn nothing_stored_lies_in_the_folder_in_clear() {
    fn grep(dir: &std::path::Path, needle: &[u8]) -> bool {
        fs::read_dir(dir).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                grep(&path, needle)
            } else {
                fs::read(path)
                    .unwrap()
                    .windows(needle.len())
                    .any(|w| w == needle)
            }
        })
    }
    let (dir, vault) = vault();
    let meta = Meta {
        subject: Some("MARKER-SUBJECT".into()),
        ..Meta::named("MARKER-NAME")
    };
    vault
        .store_bytes(&b"MARKER-DATA".repeat(500), meta)
        .unwrap();
    for needle in [&b"MARKER"[..], KEY, vault.inner.known().body.node.expose()] {
        assert!(!grep(dir.path(), needle));
    }
}

#[test]
fn objects_of_one_subject_share_its_key_and_others_have_their_own() {
    let (_dir, vault) = vault();
    let person = |name: &str| Meta {
        subject: Some(name.into()),
        ..unused()
    };
    let a = vault.store_bytes(b"1", person("p")).unwrap();
    let b = vault.store_bytes(b"2", person("p")).unwrap();
    let c = vault.store_bytes(b"3", unused()).unwrap();
    let state = vault.inner.current().unwrap();
    let subject = |id| state.body.live(id).unwrap().subject;
    assert_eq!(subject(a), subject(b));
    assert_ne!(subject(a), subject(c));
    assert_eq!(state.body.subjects.len(), 2);
}

#[test]
fn many_threads_read_one_reader() {
    let (_dir, vault) = vault();
    let data = noise(50_000);
    let id = store(&vault, &data);
    let reader = vault.reader(&owner(&vault, id), id).unwrap();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let (reader, data) = (&reader, &data);
            scope.spawn(move || {
                for i in 0..200 {
                    let at = (i * 7919 + t * 131) % 50_000;
                    let mut out = vec![0; 5000];
                    let n = reader.read_at(at as u64, &mut out).unwrap();
                    assert_eq!(out[..n], data[at..(at + 5000).min(50_000)]);
                }
            });
        }
    });
}

#[test]
fn a_stored_object_is_on_record_and_so_is_each_permit() {
    let (_dir, vault) = vault();
    let id = store(&vault, b"x");
    let before = vault.audit().head().seq;
    load(&vault, id).unwrap();
    assert_eq!(vault.audit().head().seq, before + 1);
    let events: Vec<String> = aegis_audit::read(&vault.inner.paths.audit())
        .unwrap()
        .map(|r| r.unwrap().body["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["vault.create", "store", "keystore", "authorize"]);
}

#[test]
fn a_permit_opens_only_its_own_object_and_vault() {
    let (_dir, vault) = vault();
    let (_other_dir, other) = super::vault();
    let (a, b) = (store(&vault, b"a"), store(&vault, b"b"));
    let permit = owner(&vault, a);
    assert!(matches!(
        vault.reader(&permit, b),
        Err(VaultError::Permit(_))
    ));
    let c = store(&other, b"c");
    assert!(matches!(
        other.reader(&permit, c),
        Err(VaultError::Permit(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_place_read_equals_the_plaintext(
        len in 0_usize..30_000,
        reads in prop::collection::vec((0_u64..31_000, 0_usize..9_000), 1..20),
    ) {
        let (_dir, vault) = vault();
        let data = noise(len);
        let id = store(&vault, &data);
        let mut reader = vault.reader(&owner(&vault, id), id).unwrap();
        for (offset, size) in reads {
            let mut out = vec![0; size];
            let n = reader.read_at(offset, &mut out).unwrap();
            let start = usize::try_from(offset).unwrap().min(len);
            prop_assert_eq!(&out[..n], &data[start..(start + size).min(len)]);
            reader.seek(SeekFrom::Start(offset)).unwrap();
            let mut streamed = Vec::new();
            Read::by_ref(&mut reader).take(size as u64).read_to_end(&mut streamed).unwrap();
            prop_assert_eq!(&streamed[..], &out[..n]);
        }
    }

    #[test]
    fn the_split_of_writes_does_not_matter(sizes in prop::collection::vec(0_usize..6_000, 0..8)) {
        let (_dir, vault) = vault();
        let data = noise(sizes.iter().sum());
        let mut writer = vault.writer_chunked(unused(), 12).unwrap();
        let mut rest = &data[..];
        for size in sizes {
            writer.write_all(&rest[..size]).unwrap();
            rest = &rest[size..];
        }
        let id = writer.finish().unwrap();
        prop_assert_eq!(load(&vault, id).unwrap(), data);
    }
}
