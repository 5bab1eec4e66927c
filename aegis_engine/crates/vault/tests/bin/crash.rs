//! One operation on a vault, for the crash tests: `crash FOLDER OPERATION SEED OBJECT`.

use std::path::Path;

use aegis_vault::{Meta, Provider, StoreOptions, Vault};
use uuid::Uuid;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, operation, seed, object] = &arguments[..] else {
        panic!("crash FOLDER OPERATION SEED OBJECT")
    };
    let seed: u8 = seed.parse().expect("a number");
    let object: Uuid = object.parse().expect("an id");
    let folder = Path::new(folder);
    let key = |byte| Provider::raw(&[byte; 32]).expect("32 bytes");
    let vault = Vault::open(folder, &key(1)).expect("opens");
    let data = vec![seed; 3 * (1 << 20) + usize::from(seed)];
    match operation.as_str() {
        "open" => {}
        "store" => {
            let source = folder.with_extension("source");
            std::fs::write(&source, &data).expect("the source");
            let meta = Meta::named("new");
            vault
                .store_file(&source, meta, StoreOptions::default())
                .expect("stores");
        }
        "write" => {
            let mut writer = vault
                .writer_chunked(Meta::named("new"), 12)
                .expect("starts");
            writer.append(&data).expect("appends");
            writer.finish().expect("finishes");
        }
        "rename" => vault.rename(object, "renamed").expect("renames"),
        "shred" => drop(vault.shred(object, None).expect("shreds")),
        "shred_subject" => drop(vault.shred_subject("person", None).expect("shreds")),
        "rotate" => drop(vault.rotate(Some(&key(2))).expect("rotates")),
        "renew" => drop(vault.rotate(None).expect("rotates")),
        "reencrypt" => drop(vault.reencrypt(object, None).expect("re-encrypts")),
        "backup" => {
            let target = folder.with_extension("backup");
            vault.backup_keystore(&target, &key(3)).expect("backs up");
        }
        "destroy" => drop(vault.destroy(None).expect("destroys")),
        other => panic!("no operation {other}"),
    }
}
