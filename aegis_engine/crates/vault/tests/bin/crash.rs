//! One operation on a vault, for the crash tests: `crash FOLDER OPERATION SEED OBJECT SECOND DATASET`.

mod material;
mod sets;

use std::path::Path;

use aegis_vault::{Item, LogTrust, Meta, Result, StoreOptions, Vault};
use material::{content, key, large, store_records};
use uuid::Uuid;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, operation, seed, ids @ ..] = &arguments[..] else {
        panic!("crash FOLDER OPERATION SEED OBJECT SECOND DATASET")
    };
    let seed = seed.parse().expect("a number");
    let ids: Vec<Uuid> = ids.iter().map(|id| id.parse().expect("an id")).collect();
    let (folder, backup) = (
        Path::new(folder),
        Path::new(folder).with_extension("backup"),
    );
    let done = match operation.as_str() {
        "create" => Vault::create(folder, &key(1)).map(drop),
        "restore" => {
            Vault::restore_keystore(folder, &backup, &key(3), &key(1), LogTrust::default())
                .map(drop)
        }
        // As an operator would, who does not know whether the rotation was done.
        "open" => Vault::open(folder, &key(1))
            .or_else(|_| Vault::open(folder, &key(2)))
            .map(drop),
        other => Vault::open(folder, &key(1))
            .and_then(|vault| operate(&vault, folder, &backup, other, seed, &ids)),
    };
    done.unwrap_or_else(|error| panic!("{operation}: {error}"));
}

fn operate(
    vault: &Vault,
    folder: &Path,
    backup: &Path,
    operation: &str,
    seed: u8,
    ids: &[Uuid],
) -> Result<()> {
    let [object, second, dataset] = ids else {
        panic!("three ids")
    };
    match operation {
        "store" => {
            let source = folder.with_extension("source");
            std::fs::write(&source, large(seed)).expect("the source");
            let stored = vault.store_file(&source, Meta::named("new"), StoreOptions::default());
            stored.map(drop)
        }
        "write" => {
            let mut writer = vault.writer_chunked(Meta::named("new"), 12)?;
            writer.append(&content(seed, 9))?;
            writer.finish().map(drop)
        }
        "records" => store_records(vault, "new", seed).map(drop),
        "many" => {
            let large = large(seed);
            let items = [
                (Item::Bytes(&large), Meta::named("new")),
                (Item::Bytes(b"small"), Meta::named("small")),
            ];
            vault.store_many(&items, StoreOptions::default()).map(drop)
        }
        "head" => vault.commit_head("ledger", 2, [2; 32]),
        // Enough of them that the changes become a base.
        "outgrow" => (2..40)
            .try_for_each(|n| vault.commit_head(&format!("{n} {}", "x".repeat(1000)), 1, [2; 32])),
        "rename" => vault.rename(*object, "renamed"),
        "shred" => vault.shred(*object, None).map(drop),
        "shred_many" => vault.shred_many(&[*object, *dataset], None).map(drop),
        "shred_dataset" => vault.shred(*dataset, None).map(drop),
        "shred_subject" => vault.shred_subject("person", None).map(drop),
        "erase_person" => vault.erase_person("person 3", None).map(drop),
        "rotate" => vault.rotate(Some(&key(2))).map(drop),
        "renew" => vault.rotate(None).map(drop),
        "reencrypt" => vault.reencrypt(*second, None).map(drop),
        "reencrypt_dataset" => vault.reencrypt(*dataset, None).map(drop),
        "backup" => vault.backup_keystore(backup, &key(3)),
        "destroy" => vault.destroy(None).map(drop),
        "drafts" => sets::store(vault, sets::FIRST),
        "extend" => sets::extend(vault, "delivery", sets::NEXT),
        "amend" => sets::amend(vault),
        "erase_table" => vault
            .erase_person(&sets::person(sets::ERASED), None)
            .map(drop),
        "drop" => sets::drop_both(vault),
        other => panic!("no operation {other}"),
    }
}
