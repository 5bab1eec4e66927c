//! Many objects in one commit: all of them, or none.

use super::*;

#[test]
fn many_objects_appear_in_one_commit_or_not_at_all() {
    let (dir, vault) = vault();
    let file = dir.path().join("a.csv");
    fs::write(&file, b"1,2\n").unwrap();
    let large = vec![3; (1 << 20) + 5];
    let empty = dir.path().join("empty");
    fs::write(&empty, b"").unwrap();
    let items = [
        (Item::File(&file), Meta::named("")),
        (Item::Bytes(b"bytes"), Meta::named("b")),
        (Item::Bytes(&large), Meta::named("large")),
        (Item::File(&empty), Meta::named("")),
    ];
    let generation = vault.inner.known().generation;
    let ids = vault.store_many(&items, StoreOptions::default()).unwrap();
    assert_eq!(vault.inner.known().generation, generation + 1);
    assert_eq!(vault.stat(ids[0]).unwrap().name, "a.csv");
    let texts: Vec<Vec<u8>> = ids.iter().map(|id| load(&vault, *id).unwrap()).collect();
    assert_eq!(texts[0], b"1,2\n");
    assert_eq!(texts[1], b"bytes");
    assert_eq!((&texts[2], texts[3].len()), (&large, 0));
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
    let missing = dir.path().join("missing");
    let bad = [
        (Item::Bytes(b"c"), Meta::named("c")),
        (Item::File(&missing), Meta::named("")),
    ];
    assert!(vault.store_many(&bad, StoreOptions::default()).is_err());
    let verify = StoreOptions {
        verify: true,
        ..StoreOptions::default()
    };
    let twins = [
        (Item::Bytes(b"1"), Meta::named("twin")),
        (Item::Bytes(b"2"), Meta::named("twin")),
    ];
    vault.store_many(&twins, StoreOptions::default()).unwrap();
    let others = [
        (Item::File(&file), Meta::named("other")),
        (Item::Bytes(b"bytes"), Meta::named("another")),
    ];
    vault.store_many(&others, verify).unwrap();
    assert_eq!(names(&vault).len(), 8);
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
    let report = Vault::fsck(vault.path(), &provider(), FsckOptions::default()).unwrap();
    assert!(
        report.clean() && report.findings.is_empty(),
        "{:?}",
        report.findings
    );
}

#[test]
fn a_failed_store_of_many_leaves_nothing() {
    for point in [
        "many.renamed",
        "many.logged",
        "change.torn",
        "change.written",
    ] {
        let (_dir, vault) = vault();
        let items = [
            (Item::Bytes(b"1"), Meta::named("1")),
            (Item::Bytes(b"2"), Meta::named("2")),
        ];
        crate::system::failpoint::arm(Some(point));
        let failed = vault.store_many(&items, StoreOptions::default());
        crate::system::failpoint::arm(None);
        assert!(failed.is_err(), "{point}");
        let again = Vault::open(vault.path(), &provider()).unwrap();
        assert!(names(&again).is_empty(), "{point}");
        let report = Vault::fsck(again.path(), &provider(), FsckOptions::default()).unwrap();
        assert!(report.findings.is_empty(), "{point}: {:?}", report.findings);
    }
}
