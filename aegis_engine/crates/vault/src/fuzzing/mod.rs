//! What the fuzz targets need goes here: every decoder of bytes that an attacker could have written, for `fuzz/` and
//! `tests/fuzz_short.rs`. Not an interface.
//!
//! The functions panic when a promise is broken: a value has one encoding, an altered object is never read as a whole one.

mod image;
mod seeds;

use std::path::Path;
use std::sync::OnceLock;

use uuid::Uuid;

use crate::dataset;
use crate::error::Result;
use crate::format::changes::{Chain, Next, Scratch};
use crate::format::envelope::{self, Form, Opened};
use crate::format::header::{HEADER, Header, MAC_AT, TAG};
use crate::format::keystore::{Body, Delta};
use crate::format::meta::Sealed;
use crate::format::paths::About;
use crate::format::schema;
use crate::kdf::Prk;
use crate::keys::epoch::Wrapped;
use crate::keys::provider::passphrase;
use crate::object::keys;
use crate::ops::shred::Intent;
use crate::secret::Secret;
use crate::vault::Vault;

pub use image::{clean, reader};
pub use seeds::{header_seeds, keystore_seeds, reader_seeds};

/// Nothing here needs more memory at once: two of the largest chunks and a little.
pub const ALLOCATION_MAX: usize = 2 * (16 << 20) + (64 << 10);

/// A header, padded with zeros to its length.
pub fn header(data: &[u8]) {
    let mut raw = [0; HEADER];
    let n = data.len().min(HEADER);
    raw[..n].copy_from_slice(&data[..n]);
    let object = id_at(&raw, 32);
    let Ok(header) = Header::decode(&raw, object) else {
        return;
    };
    assert_eq!(header.encode(), raw[..MAC_AT], "one encoding");
    assert!(Header::decode(&raw, Uuid::max()).is_err() || object == Uuid::max());
    let last = header.chunks - 1;
    let (at, len) = (header.chunk_at(last), header.chunk_len(last) as u64);
    assert!(len <= header.chunk() as u64);
    assert_eq!(at + len + TAG as u64, header.file_len());
    assert_eq!(last * header.chunk() as u64 + len, header.length);
}

/// The first byte chooses the decoder.
pub fn keystore(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    match which % 11 {
        0 => sealed(bytes, Form::Keystore),
        1 => sealed(bytes, Form::Backup),
        2 => {
            for version in [1, 2] {
                let Ok(body) = Body::decode(bytes, version) else {
                    continue;
                };
                let again = body.encode(&Delta::default(), &body.audit);
                let again = again.expect("memory");
                assert!(version == 1 || *again == *bytes, "one encoding");
                assert!(Body::decode(&again, 2).is_ok(), "as version 2");
            }
        }
        3 => drop(Wrapped::decode(bytes, id_at(bytes, 16))),
        4 => drop(passphrase::decode(bytes)),
        5 => {
            drop(About::decode(bytes, Path::new("v"), bytes.len() % 2 == 0));
        }
        6 => drop(serde_json::from_slice::<Intent>(bytes)),
        7 => drop(Sealed::decode(bytes, Uuid::nil())),
        8 => governance(bytes),
        9 => {
            if let Ok((delta, audit)) = Delta::decode(bytes) {
                let again = delta.encode(&audit).expect("memory");
                assert_eq!(*again, *bytes, "one encoding");
            }
        }
        _ => drop(follow(&mut chain(), bytes)),
    }
}

/// The chain of the seeds' changes.
fn chain() -> Chain {
    let prk = Prk::extract(b"fuzz", root().expose());
    Chain::new(&prk, [1; 24], 3).expect("three keys")
}

/// Reads changes to the end; what is read has one encoding.
fn follow(chain: &mut Chain, mut rest: &[u8]) -> Result<()> {
    let mut scratch = Scratch::default();
    while let Next::Change(plain, whole) = chain.open(rest, &mut scratch)? {
        assert!(whole <= rest.len());
        if let Ok((delta, audit)) = Delta::decode(plain) {
            assert_eq!(
                *delta.encode(&audit).expect("memory"),
                *plain,
                "one encoding"
            );
        }
        rest = &rest[whole..];
    }
    Ok(())
}

fn sealed(bytes: &[u8], form: Form) {
    let peeked = envelope::peek(bytes, form);
    let opened = envelope::open(bytes, form, root());
    assert!(peeked.is_ok() || opened.is_err());
    if let Ok(Opened {
        end,
        chain: Some(mut chain),
        ..
    }) = opened
    {
        drop(follow(&mut chain, &bytes[end..]));
    }
}

fn governance(bytes: &[u8]) {
    let object = id_at(bytes, 8);
    let Some(found) = dataset::decode(object, bytes) else {
        return;
    };
    if let schema::Layout::Records(schema) = &found.layout
        && schema.check().is_ok()
    {
        // As when a dataset is opened: no product overflows.
        let _ = u64::from(found.rows) * schema.record_len() as u64;
    }
    let again = dataset::encode(object, &found.layout, &found.facts, &found.index);
    let again = again.expect("what was decoded can be encoded");
    assert!(dataset::decode(object, &again).is_some());
}

/// The root of the seeds' keystores.
fn root() -> &'static Secret<32> {
    static ROOT: OnceLock<Secret<32>> = OnceLock::new();
    ROOT.get_or_init(|| Secret::write(|out| out.fill(0x11)))
}

fn id_at(bytes: &[u8], at: usize) -> Uuid {
    let id = bytes.get(at..at + 16).and_then(|id| id.try_into().ok());
    id.map_or_else(Uuid::nil, Uuid::from_bytes)
}

/// What [`secrets`] masks its bytes with, so that a search for them does not find the needles themselves.
pub const MASK: u8 = 0xA5;

/// The keys in use for an object, by name, masked: for the test that none of them outlives the vault.
pub fn secrets(vault: &Vault, object: Uuid) -> Result<Vec<(&'static str, [u8; 32])>> {
    fn masked(key: &Secret<32>) -> [u8; 32] {
        let mut out = [0; 32];
        for (out, byte) in out.iter_mut().zip(key.expose()) {
            *out = byte ^ MASK;
        }
        out
    }
    let inner = &vault.inner;
    let state = inner.current()?;
    let record = state.body.live(object)?;
    let auth = inner.auth();
    let epoch = auth.epoch_key(&inner.paths, inner.id, state.epoch)?;
    let file = crate::object::file::ObjectFile::open(inner, record)?;
    let mut all = vec![
        ("node secret", masked(&state.body.node)),
        ("epoch secret", masked(&epoch.secret)),
        ("root", masked(&auth.root(inner.id, &epoch)?)),
    ];
    if let Some(subject) = state.body.subjects.get(&record.subject) {
        all.push(("subject key", masked(subject)));
    }
    let (dek, content) = keys::for_search(&state.body, inner.id, record, &file.header)?;
    all.push(("data key", masked(&dek)));
    // AES-256 keeps it as the first two round keys.
    all.push(("content key", masked(&content)));
    Ok(all)
}
