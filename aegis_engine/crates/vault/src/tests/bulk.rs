//! Storing, checking and reading on several threads.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::{StoreOptions, VaultError};

fn source(data: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    file
}

fn small(vault: &Vault, data: &[u8]) -> Uuid {
    store(vault, data)
}

#[test]
fn a_failing_stream_and_a_stopping_callback_leave_nothing_behind() {
    let (_dir, vault) = vault();
    let mut calls = 0;
    let mut failing = |out: &mut [u8]| {
        calls += 1;
        if calls > 5 {
            return Err(VaultError::BadRequest {
                what: "the line went dead".into(),
            });
        }
        Ok(out.len())
    };
    let error = vault
        .store_stream(&mut failing, unused(), StoreOptions::default())
        .unwrap_err();
    assert!(error.to_string().contains("went dead"));
    let file = source(&noise(5 << 20));
    let mut stop = |done| done < 2 << 20;
    let options = StoreOptions {
        progress: Some(&mut stop),
        ..StoreOptions::default()
    };
    let error = vault
        .store_file(file.path(), Meta::default(), options)
        .unwrap_err();
    assert!(matches!(error, VaultError::Interrupted), "{error}");
    assert!(vault.list().unwrap().is_empty());
    assert_eq!(
        fs::read_dir(vault.inner.paths.journal()).unwrap().count(),
        0
    );
    assert!(
        crate::Vault::fsck(vault.path(), &provider(), crate::FsckOptions::default())
            .unwrap()
            .findings
            .is_empty()
    );
}

#[test]
fn progress_grows_to_the_length_of_the_source() {
    let (_dir, vault) = vault();
    let file = source(&noise((9 << 20) + 5));
    let mut seen = vec![0];
    let mut tell = |done| {
        seen.push(done);
        true
    };
    let options = StoreOptions {
        progress: Some(&mut tell),
        ..StoreOptions::default()
    };
    let id = vault
        .store_file(file.path(), Meta::default(), options)
        .unwrap();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&((9 << 20) + 5)));
    let mut last = 0;
    let mut tell = |done| {
        last = done;
        true
    };
    vault.verify_with(id, Some(3), Some(&mut tell)).unwrap();
    assert_eq!(last, (9 << 20) + 5);
}

#[test]
fn a_source_that_shrinks_is_refused() {
    let (_dir, vault) = vault();
    let file = source(&noise(8 << 20));
    let path = file.path().to_path_buf();
    let mut cut = move |done| {
        if done >= 1 << 20 {
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(100)
                .unwrap();
        }
        true
    };
    let options = StoreOptions {
        threads: Some(1),
        progress: Some(&mut cut),
        ..StoreOptions::default()
    };
    let error = vault
        .store_file(file.path(), Meta::default(), options)
        .unwrap_err();
    assert!(matches!(error, VaultError::SourceChanged), "{error}");
    assert!(vault.list().unwrap().is_empty());
}

#[test]
fn files_of_proc_and_pipes_are_read_to_their_end() {
    let (_dir, vault) = vault();
    let id = vault
        .store_file(
            Path::new("/proc/cpuinfo"),
            Meta::default(),
            StoreOptions::default(),
        )
        .unwrap();
    assert!(vault.stat(id).unwrap().bytes > 0);
}

#[test]
fn a_verified_store_reads_back_what_it_wrote() {
    let (_dir, vault) = vault();
    let data = noise((3 << 20) + 1);
    let file = source(&data);
    let options = StoreOptions {
        verify: true,
        ..StoreOptions::default()
    };
    let id = vault
        .store_file(file.path(), Meta::default(), options)
        .unwrap();
    assert_eq!(load(&vault, id).unwrap(), data);
}

#[test]
fn the_first_damaged_chunk_is_named_whatever_the_threads() {
    let (_dir, vault) = vault();
    let id = small(&vault, &noise(64 * 4096));
    let path = vault.inner.paths.object(id);
    let mut bytes = fs::read(&path).unwrap();
    for chunk in [11, 12, 13, 40] {
        bytes[4096 + chunk * 4112 + 5] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    for threads in [1, 2, 4, 16] {
        for _ in 0..20 {
            let error = vault.verify_with(id, Some(threads), None).unwrap_err();
            assert!(
                matches!(error, VaultError::ChunkAuthFailed { index: 11, .. }),
                "{threads}: {error}"
            );
        }
    }
    let reader = vault.reader(&owner(&vault, id), id).unwrap();
    let mut out = vec![7; 64 * 4096];
    assert!(reader.read_into(0, &mut out, Some(4)).is_err());
    assert!(out.iter().all(|b| *b == 0), "plaintext beside an error");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_range_read_on_any_number_of_threads_is_the_slice(
        len in prop_oneof![Just(0usize), Just(4096), Just(8192), 0usize..60_000],
        from in 0usize..70_000, want in 0usize..70_000, threads in 1usize..6,
    ) {
        let (_dir, vault) = vault();
        let data = noise(len);
        let id = small(&vault, &data);
        let reader = vault.reader(&owner(&vault, id), id).unwrap();
        let slice = &data[from.min(len)..(from + want).min(len).max(from.min(len))];
        let mut out = vec![0xEE; want];
        let n = reader.read_into(from as u64, &mut out, Some(threads)).unwrap();
        prop_assert_eq!(&out[..n], slice);
        prop_assert!(out[n..].iter().all(|b| *b == 0xEE));
        let n = reader.read_at(from as u64, &mut out).unwrap();
        prop_assert_eq!(&out[..n], slice);
    }
}

#[test]
fn readers_a_writer_and_a_shred_go_on_side_by_side() {
    let (_dir, vault) = vault();
    let data = noise(300_000);
    let (kept, gone) = (small(&vault, &data), small(&vault, &data));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let read = |id: Uuid, out: &mut [u8]| -> Result<()> {
        let reader = vault.reader(&owner_or(&vault, id)?, id)?;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            reader.read_into(0, out, Some(2))?;
            assert!(out == data.as_slice());
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let steady: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| read(kept, &mut vec![0; data.len()])))
            .collect();
        let ends = scope.spawn(|| read(gone, &mut vec![0; data.len()]));
        for n in 0..10u8 {
            small(&vault, &noise(usize::from(n) * 5000));
        }
        vault.shred(gone, None).unwrap();
        let error = ends.join().unwrap().unwrap_err();
        assert!(
            matches!(error, VaultError::ObjectShredded { .. }),
            "{error}"
        );
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in steady {
            reader.join().unwrap().unwrap();
        }
    });
}

fn owner_or(vault: &Vault, id: Uuid) -> Result<Arc<Permit>> {
    Ok(Arc::new(vault.owner_permit(id, Action::Read)?))
}
