//! Shredding: the keys of an object go, and with them the root that could open an older keystore.

use std::collections::HashSet;

use aegis_audit::Event;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::keystore::Kind;
use crate::kdf;
use crate::level::Level;
use crate::ops::doctor::caveats;
use crate::ops::receipt::ShredReceipt;
use crate::secret::Secret;
use crate::system::failpoint;
use crate::system::files::{self, Place};
use crate::vault::Exclusive;
use crate::vault::proof;
use crate::vault::{Vault, now};

/// About a million objects.
const INTENT_MAX: u64 = 64 << 20;

/// Written before anything is destroyed: after a crash the shred is finished, not forgotten.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intent {
    objects: Vec<Uuid>,
    when: u64,
    /// Under the node secret: whoever can only write files must not make the vault destroy keys.
    mac: String,
}

/// Goes into the audit record of keys that are gone. The log has no secret: without this, whoever writes files could make
/// a restore drop keys by a record of their own.
pub(crate) fn proof(objects: &[Uuid], when: u64, node: &Secret<32>) -> Result<String> {
    proof::of_objects(b"aegis/v1/shred-record", objects, when, node)
}

/// Objects and time of an audit record that this vault wrote about destroyed keys; `None` for any other record.
pub(crate) fn proven(record: &Value, node: &Secret<32>) -> Result<Option<(Vec<Uuid>, u64)>> {
    let parsed = || {
        let objects = record["objects"].as_array()?.iter();
        let objects = objects
            .map(|id| id.as_str()?.parse().ok())
            .collect::<Option<Vec<Uuid>>>()?;
        Some((objects, record["when"].as_u64()?, record["proof"].as_str()?))
    };
    let Some((objects, when, told)) = parsed() else {
        return Ok(None);
    };
    let genuine = proof(&objects, when, node)?;
    Ok(kdf::same(genuine.as_bytes(), told.as_bytes()).then_some((objects, when)))
}

impl Intent {
    fn new(objects: Vec<Uuid>, when: u64, node: &Secret<32>) -> Result<Self> {
        let mac = proof::of_objects(b"aegis/v1/shred-intent", &objects, when, node)?;
        Ok(Self { objects, when, mac })
    }
}

impl Vault {
    /// The strongest shred this vault reaches, by its key provider.
    pub fn shred_level(&self) -> Level {
        self.inner.auth().provider.level()
    }

    /// Destroys the keys of an object (and of the governance rows of a dataset), ratchets the epoch and removes the
    /// files. With `require`, refuses before anything happens when that level cannot be reached.
    pub fn shred(&self, object: Uuid, require: Option<Level>) -> Result<ShredReceipt> {
        self.shred_many(&[object], require)
    }

    /// As [`shred`](Self::shred) for all of `objects` at once: one ratchet, one receipt; all of them or none.
    pub fn shred_many(&self, objects: &[Uuid], require: Option<Level>) -> Result<ShredReceipt> {
        self.check_level(require)?;
        if objects.is_empty() {
            return Err(VaultError::BadRequest {
                what: "no object to shred was given; list the vault for the ids it has".to_owned(),
            });
        }
        // Whose budget it spent is known before it is gone.
        self.adopt_old_lineages()?;
        let exclusive = self.inner.exclusive()?;
        self.shred_under(exclusive, objects)
    }

    /// Every object about that subject alone, and the subject's key. Rows of theirs in datasets are not reached; the receipt
    /// says so where there are any ([`erase_person`](Self::erase_person) removes them).
    ///
    /// # Errors
    /// [`VaultError::SubjectNotFound`] when no object is about it.
    pub fn shred_subject(&self, subject: &str, require: Option<Level>) -> Result<ShredReceipt> {
        self.check_level(require)?;
        let rows = self.rows_of_people()?;
        let has_rows = self.named(subject, &rows).is_ok_and(|who| who.known);
        let exclusive = self.inner.exclusive()?;
        let objects = self.objects_about(subject)?;
        if objects.is_empty() {
            return Err(VaultError::SubjectNotFound);
        }
        let mut receipt = self.shred_under(exclusive, &objects)?;
        if has_rows {
            receipt.caveats.push(
                "the person has rows in data sets, which this does not reach: `aegis vault erase-person` removes them"
                    .to_owned(),
            );
        }
        Ok(receipt)
    }

    pub(crate) fn check_level(&self, require: Option<Level>) -> Result<()> {
        let attainable = self.shred_level();
        match require.filter(|level| *level > attainable) {
            Some(required) => Err(VaultError::InsufficientAssurance {
                required,
                attainable,
            }),
            None => Ok(()),
        }
    }

    fn shred_under(&self, mut exclusive: Exclusive<'_>, objects: &[Uuid]) -> Result<ShredReceipt> {
        let mut all = Vec::with_capacity(objects.len());
        let mut seen = HashSet::with_capacity(objects.len());
        for object in objects {
            let record = exclusive.live(*object)?;
            if record.kind == Kind::Rows {
                let what = format!(
                    "object {object} is the governance part of a dataset; shred the dataset"
                );
                return Err(VaultError::BadRequest { what });
            }
            for id in [*object].into_iter().chain(record.rows) {
                if seen.insert(id) {
                    all.push(id);
                }
            }
        }
        let intent = Intent::new(all, now(), &exclusive.state().body.node)?;
        let path = self.inner.paths.shred_intent(objects[0]);
        let bytes = serde_json::to_vec(&intent).map_err(|_| VaultError::BadRequest {
            what: "the shred intent cannot be encoded".to_owned(),
        })?;
        files::replace(&path, &bytes)?;
        failpoint::point("shred.intent")?;
        let receipt = perform(&mut exclusive, &intent, &path)?;
        exclusive.done()?;
        Ok(receipt)
    }
}

/// Idempotent: each step checks whether it is done.
fn perform(exclusive: &mut Exclusive<'_>, intent: &Intent, path: &Place) -> Result<ShredReceipt> {
    let epoch_before = exclusive.epoch;
    let level = exclusive.inner.auth().provider.level();
    let mut caveats = caveats(&exclusive.inner.paths.root);
    if intent.objects.iter().any(|id| exclusive.live(*id).is_ok()) {
        for id in &intent.objects {
            exclusive.shred(*id, intent.when);
        }
        caveats.extend(exclusive.ratchet()?.note);
    }
    failpoint::point("shred.ratcheted")?;
    let layout = &exclusive.inner.paths;
    for id in &intent.objects {
        let file = layout.object(*id);
        if files::remove(&file)? {
            files::sync_parent(&file)?;
        }
    }
    failpoint::point("shred.removed")?;
    let objects: Vec<String> = intent.objects.iter().map(Uuid::to_string).collect();
    let copies = exclusive.state().body.copies.clone();
    let proof = proof(&intent.objects, intent.when, &exclusive.state().body.node)?;
    let facts = json!({
        "objects": objects,
        "level": level.name(),
        "epoch_before": epoch_before,
        "epoch_after": exclusive.epoch,
        "when": intent.when,
        "proof": proof,
        "known_copies": copies.len(),
    });
    let audit = exclusive.inner.log.record(Event::Shred, facts)?;
    failpoint::point("shred.logged")?;
    files::remove(path)?;
    files::sync_parent(path)?;
    Ok(ShredReceipt {
        objects: intent.objects.clone(),
        level,
        epoch_before,
        epoch_after: exclusive.epoch,
        when: intent.when,
        audit_seq: audit.seq,
        copies,
        caveats,
    })
}

/// Finishes a shred that a crash interrupted.
pub(crate) fn forward(exclusive: &mut Exclusive<'_>, path: &Place) -> Result<()> {
    let bytes = files::read(path, INTENT_MAX)?;
    let bad = || VaultError::IntentForged {
        path: path.path().to_path_buf(),
    };
    let intent: Intent = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let genuine = Intent::new(
        intent.objects.clone(),
        intent.when,
        &exclusive.state().body.node,
    )?;
    if !kdf::same(genuine.mac.as_bytes(), intent.mac.as_bytes()) {
        return Err(bad());
    }
    perform(exclusive, &intent, path).map(drop)
}
