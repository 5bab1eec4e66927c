//! Proofs: MACs under the node secret in records that a decision rests on. The logs have no secret, so a record that is not
//! proven may have been written by anybody who can write files; it counts towards denial at most.

use aegis_audit::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::Result;
use crate::kdf::{self, Prk};
use crate::secret::Secret;
use crate::vault::{Vault, hex};

/// What a record says of the thing that was asked for.
pub(crate) enum Said<T> {
    /// It is about something else.
    Nothing,
    /// It says so, and this vault wrote it.
    Proven(T),
    /// It says so; who wrote it is not known.
    Unproven(T),
}

/// HMAC under a key of the node secret, which no backup and no ratchet changes.
pub(crate) fn mac(label: &[u8], node: &Secret<32>, covered: &[&[u8]]) -> Result<[u8; 32]> {
    let key = Prk::extract(b"aegis/v1/node", node.expose()).expand(&[label])?;
    Ok(kdf::mac(&key, covered))
}

fn said<T>(record: &Value, value: T, genuine: &[u8; 32]) -> Said<T> {
    let told = record["proof"].as_str().unwrap_or_default();
    if kdf::same(hex(genuine).as_bytes(), told.as_bytes()) {
        Said::Proven(value)
    } else {
        Said::Unproven(value)
    }
}

fn of_generation(generation: u64, epoch: u64, node: &Secret<32>) -> Result<[u8; 32]> {
    let covered: [&[u8]; 2] = [&generation.to_le_bytes(), &epoch.to_le_bytes()];
    mac(b"aegis/v2/keystore-record", node, &covered)
}

/// The record of a keystore that has become durable.
pub(crate) fn keystore_record(generation: u64, epoch: u64, node: &Secret<32>) -> Result<Value> {
    let proof = hex(&of_generation(generation, epoch, node)?);
    Ok(json!({"generation": generation, "epoch": epoch, "proof": proof}))
}

/// The generation and epoch that a record says the keystore has reached.
pub(crate) fn generation(record: &Value, node: &Secret<32>) -> Result<Said<(u64, u64)>> {
    if record["event"] != Event::Keystore.name() {
        return Ok(Said::Nothing);
    }
    let number = |field: &str| record[field].as_u64().unwrap_or(0);
    let (generation, epoch) = (number("generation"), number("epoch"));
    let genuine = of_generation(generation, epoch, node)?;
    Ok(said(record, (generation, epoch), &genuine))
}

fn of_bundle(bundle: &str, epoch: u64, node: &Secret<32>) -> Result<[u8; 32]> {
    let covered: [&[u8]; 2] = [&epoch.to_le_bytes(), bundle.as_bytes()];
    mac(b"aegis/v2/govern-record", node, &covered)
}

/// The record of a bundle that governs from `epoch` on.
pub(crate) fn govern_record(
    bundle: &[u8; 32],
    previous: Option<&[u8; 32]>,
    epoch: u64,
    node: &Secret<32>,
) -> Result<Value> {
    let bundle = hex(bundle);
    let proof = hex(&of_bundle(&bundle, epoch, node)?);
    let previous = previous.map(|hash| hex(hash));
    Ok(json!({"bundle": bundle, "previous": previous, "epoch": epoch, "proof": proof}))
}

/// The bundle that a record says governs the vault.
pub(crate) fn bundle(record: &Value, node: &Secret<32>) -> Result<Said<Option<[u8; 32]>>> {
    if record["event"] != Event::Govern.name() {
        return Ok(Said::Nothing);
    }
    let text = record["bundle"].as_str().unwrap_or_default();
    let epoch = record["epoch"].as_u64().unwrap_or(0);
    let genuine = of_bundle(text, epoch, node)?;
    Ok(said(record, unhex(text), &genuine))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// HMAC over destroyed objects.
pub(crate) fn of_objects(
    label: &[u8],
    objects: &[Uuid],
    when: u64,
    node: &Secret<32>,
) -> Result<String> {
    let mut covered = when.to_le_bytes().to_vec();
    covered.extend(objects.iter().flat_map(|id| *id.as_bytes()));
    Ok(hex(&mac(label, node, &[&covered])?))
}

/// The proof of `data` in `domain`: for records of the programs above, such as consent and reservations. The length keeps
/// the domain apart from every other.
pub(crate) fn of_data(domain: &str, data: &[u8], node: &Secret<32>) -> Result<[u8; 32]> {
    Ok(kdf::mac(&key(domain, node)?, &[data]))
}

/// The key of a domain's proofs.
pub(crate) fn key(domain: &str, node: &Secret<32>) -> Result<Secret<32>> {
    let length = (domain.len() as u64).to_le_bytes();
    Prk::extract(b"aegis/v1/node", node.expose()).expand(&[
        b"aegis/v2/proof",
        &length,
        domain.as_bytes(),
    ])
}

impl Vault {
    /// A MAC over `data` that only this vault can make, in a `domain` of its own: what a record needs so that somebody who
    /// can only write files cannot have written it. It survives rotation, restore and re-encryption.
    pub fn proof(&self, domain: &str, data: &[u8]) -> Result<[u8; 32]> {
        of_data(domain, data, &self.inner.known().body.node)
    }

    /// Whether `proof` is the one of `data` in `domain`; in constant time.
    pub fn check_proof(&self, domain: &str, data: &[u8], proof: &[u8]) -> Result<bool> {
        Ok(kdf::same(&self.proof(domain, data)?, proof))
    }
}
