//! What a keystore costs as it grows, and what every state of it proves.

mod changes;
mod many;
mod trail;

use std::collections::BTreeMap;

use super::*;
use crate::{FsckOptions, Item, LogTrust, StoreOptions, VaultError};

fn keystore(path: &Path) -> std::path::PathBuf {
    path.join("keystore.akv")
}

fn names(vault: &Vault) -> Vec<String> {
    let mut all: Vec<String> = vault.list().unwrap().into_iter().map(|o| o.name).collect();
    all.sort();
    all
}

fn named(vault: &Vault, name: &str) -> Uuid {
    vault
        .store_bytes(name.as_bytes(), Meta::named(name))
        .unwrap()
}
