//! Shredding: the keys of an object go, and with them the root that could open an older keystore.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::exclusive::Exclusive;
use crate::fail;
use crate::files;
use crate::kdf::{self, Prk};
use crate::keystore::Kind;
use crate::provider::Provider;
use crate::receipt::{Level, ShredReceipt};
use crate::secret::Secret;
use crate::vault::{Vault, hex, now};

/// Written before anything is destroyed: after a crash the shred is finished, not forgotten.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    objects: Vec<Uuid>,
    when: u64,
    /// Under the node secret: whoever can only write files must not make the vault destroy keys.
    mac: String,
}

impl Intent {
    fn new(objects: Vec<Uuid>, when: u64, node: &Secret<32>) -> Result<Self> {
        let key =
            Prk::extract(b"aegis/v1/node", node.expose()).expand(&[b"aegis/v1/shred-intent"])?;
        let mut covered = when.to_le_bytes().to_vec();
        covered.extend(objects.iter().flat_map(|id| *id.as_bytes()));
        let mac = hex(&kdf::mac(&key, &[&covered]));
        Ok(Self { objects, when, mac })
    }
}

impl Vault {
    /// Destroys the keys of an object (and of the governance rows of a dataset), ratchets the epoch and removes the
    /// files. With `require`, refuses before anything happens when that level cannot be reached.
    pub fn shred(&self, object: Uuid, require: Option<Level>) -> Result<ShredReceipt> {
        let attainable = Provider::level();
        if let Some(required) = require.filter(|level| *level > attainable) {
            return Err(VaultError::InsufficientAssurance {
                required,
                attainable,
            });
        }
        let mut exclusive = self.inner.exclusive()?;
        let record = exclusive.body.live(object)?;
        if record.kind == Kind::Rows {
            let what =
                format!("object {object} is the governance part of a dataset; shred the dataset");
            return Err(VaultError::BadRequest { what });
        }
        let objects = [object].into_iter().chain(record.rows).collect();
        let intent = Intent::new(objects, now(), &exclusive.body.node)?;
        let path = self.inner.layout.shred_intent(object);
        let bytes = serde_json::to_vec(&intent).map_err(|_| VaultError::BadRequest {
            what: "the shred intent cannot be encoded".to_owned(),
        })?;
        files::replace(&path, &bytes)?;
        fail::point("shred.intent")?;
        let caveats = caveats(&self.inner.layout.root);
        let receipt = perform(&mut exclusive, &intent, &path, caveats)?;
        exclusive.done()?;
        Ok(receipt)
    }
}

/// Idempotent: each step checks whether it is done.
fn perform(
    exclusive: &mut Exclusive<'_>,
    intent: &Intent,
    path: &Path,
    caveats: Vec<String>,
) -> Result<ShredReceipt> {
    let epoch_before = exclusive.epoch;
    if intent
        .objects
        .iter()
        .any(|id| exclusive.body.live(*id).is_ok())
    {
        for id in &intent.objects {
            exclusive.body.shred(*id, intent.when);
        }
        exclusive.ratchet()?;
    }
    fail::point("shred.ratcheted")?;
    let layout = &exclusive.inner.layout;
    for id in &intent.objects {
        let file = layout.object(*id);
        if files::remove(&file)? {
            files::sync_parent(&file)?;
        }
    }
    let objects: Vec<String> = intent.objects.iter().map(Uuid::to_string).collect();
    let audit = exclusive.inner.log.append(&json!({
        "event": "shred",
        "objects": objects,
        "level": Provider::level().name(),
        "epoch_before": epoch_before,
        "epoch_after": exclusive.epoch,
        "when": intent.when,
    }))?;
    files::remove(path)?;
    files::sync_parent(path)?;
    Ok(ShredReceipt {
        objects: intent.objects.clone(),
        level: Provider::level(),
        epoch_before,
        epoch_after: exclusive.epoch,
        when: intent.when,
        file_removed: true,
        audit_seq: audit.seq,
        caveats,
    })
}

/// Finishes a shred that a crash interrupted.
pub(crate) fn forward(exclusive: &mut Exclusive<'_>, path: &Path) -> Result<()> {
    let bytes = files::read(path, 64 * 1024)?;
    let bad = || VaultError::BadRequest {
        what: format!(
            "shred intent {} is damaged or forged; remove it and shred the object again",
            path.display()
        ),
    };
    let intent: Intent = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let genuine = Intent::new(intent.objects.clone(), intent.when, &exclusive.body.node)?;
    if !kdf::same(genuine.mac.as_bytes(), intent.mac.as_bytes()) {
        return Err(bad());
    }
    perform(exclusive, &intent, path, Vec::new()).map(drop)
}

/// What overwriting a file does not reach on this machine.
fn caveats(root: &Path) -> Vec<String> {
    let mut all = vec![
        "copies of epoch.key outside this folder (backups, snapshots) are not reached".to_owned(),
        "spare blocks of a solid-state disk and journals may keep old blocks of epoch.key".to_owned(),
        "the source the object was imported from, exports, models and running trainers are not reached".to_owned(),
    ];
    let copies = match rustix::fs::statfs(root).map(|about| about.f_type) {
        Ok(0x9123_683e) => Some("btrfs"),
        Ok(0x2fc1_2fc1) => Some("zfs"),
        Ok(0x5846_5342) => Some("xfs with reflinks"),
        Ok(0x794c_7630) => Some("overlayfs"),
        Ok(0xca45_1a4e) => Some("bcachefs"),
        Ok(0x6969) => Some("nfs"),
        Ok(_) => None,
        Err(_) => Some("a file system that cannot be told"),
    };
    if let Some(name) = copies {
        all.push(format!(
            "the vault lies on {name}: overwriting in place may write to other blocks"
        ));
    }
    if fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1) {
        all.push("swap is on: key pages may have been written to it".to_owned());
    }
    all
}
