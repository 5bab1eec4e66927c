//! Tests of the crate as a whole; each is named for the behaviour it pins.

mod backup_restore;
mod bulk;
mod destroy;
mod door;
mod durable;
mod folders;
mod fsck_scrub_doctor;
mod golden;
mod growth;
mod names;
mod open;
mod records;
mod rotate_reencrypt;
mod shred;
mod store;
mod tamper;
mod vectors;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_policy::{Action, Permit};
use tempfile::TempDir;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::format::paths::Paths;
use crate::keys::provider::Passphrase;
use crate::{Meta, Provider, Result, Vault};

const KEY: &[u8; 32] = b"SUPER_SECRET_32_BYTE_KEY_1234567";

fn provider() -> Provider {
    Provider::raw(KEY).unwrap()
}

fn vault() -> (TempDir, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::create(&dir.path().join("v"), &provider()).unwrap();
    (dir, vault)
}

fn other() -> Provider {
    Provider::raw(&[7; 32]).unwrap()
}

fn passphrase(text: &[u8]) -> Provider {
    Provider::new(Passphrase::new(Zeroizing::new(text.to_vec())).unwrap())
}

/// A name that no other object has.
fn unused() -> Meta {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    Meta::named(format!("n{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// Smallest chunks: 4 KiB.
fn store(vault: &Vault, data: &[u8]) -> Uuid {
    let mut writer = vault.writer_chunked(unused(), 12).unwrap();
    writer.append(data).unwrap();
    writer.finish().unwrap()
}

fn owner(vault: &Vault, id: Uuid) -> Arc<Permit> {
    Arc::new(vault.owner_permit(id, Action::Read).unwrap())
}

pub(crate) fn load(vault: &Vault, id: Uuid) -> Result<Vec<u8>> {
    let reader = vault.reader(&owner(vault, id), id)?;
    let mut out = vec![0; usize::try_from(reader.len()).unwrap()];
    assert_eq!(reader.read_at(0, &mut out)?, out.len());
    Ok(out)
}

/// Bytes without a pattern a chunk mix-up could hide in.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_u32;
    let mut step = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x.to_le_bytes()[1]
    };
    (0..len).map(|_| step()).collect()
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn handles_and_readers_go_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn movable<T: Send + 'static>() {}
    shared::<Vault>();
    shared::<crate::ObjectReader>();
    shared::<crate::RecordReader>();
    shared::<crate::VaultError>();
    movable::<crate::ObjectWriter>();
}
