//! Valid inputs, from which the fuzzers start.

use std::collections::{BTreeMap, BTreeSet};

use aegis_audit::{Head, Mark};
use aegis_policy::{Class, DatasetFacts, RowIndex};
use uuid::Uuid;

use super::{image, root};
use crate::dataset;
use crate::format::envelope::{self, Base, Envelope, Form};
use crate::format::header::{Header, META_MAX, TAG};
use crate::format::keystore::WRAPPED;
use crate::format::keystore::{Body, Delta, Entry, KeyRecord, Kind, NamedHead};
use crate::format::meta::{Meta, Sealed};
use crate::format::schema::{
    Column, Dtype, Layout, RecordSchema, TableColumn, TableSchema, TableTag,
};
use crate::keys::provider::{self, KeyProvider, Passphrase};
use crate::secret::Secret;

/// Headers of several sizes.
pub fn header_seeds() -> Vec<Vec<u8>> {
    let sizes = [
        (12, 0, TAG),
        (20, 5 << 20, 272),
        (24, 1 << 48, META_MAX),
        (16, 1, 528),
    ];
    let all = sizes.map(|(chunk_log2, length, meta)| {
        let header = Header {
            chunk_log2,
            vault: Uuid::from_u128(1),
            object: Uuid::from_u128(2),
            key_record: Uuid::from_u128(3),
            salt: [4; 32],
            commitment: [5; 32],
            length,
            chunks: length.div_ceil(1 << chunk_log2).max(1),
            meta: vec![6; meta],
        };
        header.encode()
    });
    all.to_vec()
}

/// One of each kind, behind its number.
pub fn keystore_seeds() -> Vec<Vec<u8>> {
    let body = body();
    let mut epoch_key = b"AEGISEPK".to_vec();
    epoch_key.extend_from_slice(&7u64.to_le_bytes());
    epoch_key.extend_from_slice(&[1; 16]);
    epoch_key.extend_from_slice(&[1, 0, 0, 0, 32, 0, 0, 0]);
    epoch_key.extend_from_slice(&[9; 32]);
    let passphrase = Passphrase::new(zeroize::Zeroizing::new(b"p".to_vec())).expect("a byte");
    let id = Uuid::from_u128(5);
    let about = format!(
        r#"{{"format":"aegis-vault","version":1,"id":"{id}","provider":"key","epoch":3,"destroyed":9}}"#
    );
    let intent = format!(
        r#"{{"objects":["{id}"],"when":1,"mac":"{}"}}"#,
        "ab".repeat(32)
    );
    let meta = Meta {
        subject: Some("person".to_owned()),
        attrs: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        ..Meta::named("n")
    };
    let kinds = [
        keystore(&body),
        envelope(Form::Backup, &body).bytes,
        encode(&body),
        epoch_key,
        passphrase.new_params().expect("random bytes"),
        about.into_bytes(),
        intent.into_bytes(),
        Sealed::new(meta, 7).encode().expect("short"),
        records(),
    ];
    let numbered = (0..).zip(kinds).map(|(n, bytes)| with(n, &bytes));
    numbered
        .chain([with(8, &table()), with(9, &change()), with(10, &changes())])
        .collect()
}

/// No mutation, each mutation, a foreign file.
pub fn reader_seeds() -> Vec<Vec<u8>> {
    let mut all = vec![vec![0, 0, 0, 255, 255], with(0xFF, &image::original())];
    all.extend((0..8).map(|kind| vec![1, kind, 5, 16, 3, 0, 0, 0, 0, 64]));
    all.extend((0..8).map(|kind| vec![0x81, kind, 5, 20, 3, 0, 0, 16, 0, 64]));
    all
}

fn with(first: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend_from_slice(bytes);
    out
}

fn encode(body: &Body) -> Vec<u8> {
    let encoded = body.encode(&Delta::default(), &body.audit);
    encoded.expect("memory").to_vec()
}

/// A base with two changes behind it.
fn keystore(body: &Body) -> Vec<u8> {
    let mut base = envelope(Form::Keystore, body);
    for _ in 0..2 {
        let plain = delta().encode(&body.audit).expect("memory");
        let (record, link) = base.chain.seal(plain).expect("random bytes");
        base.chain.advance(link);
        base.bytes.extend_from_slice(&record);
    }
    base.bytes
}

/// The plaintext of a change.
fn change() -> Vec<u8> {
    let audit = body().audit;
    delta().encode(&audit).expect("memory").to_vec()
}

/// Changes alone.
fn changes() -> Vec<u8> {
    let mut chain = super::chain();
    let mut all = Vec::new();
    for _ in 0..3 {
        let plain = delta().encode(&body().audit).expect("memory");
        let (record, link) = chain.seal(plain).expect("random bytes");
        chain.advance(link);
        all.extend_from_slice(&record);
    }
    all
}

fn delta() -> Delta {
    let head = NamedHead {
        count: 3,
        mac: [4; 32],
    };
    let record = record(9);
    Delta {
        subjects: BTreeMap::from([([9; 16], Secret::write(|out| out.fill(3)))]),
        entries: BTreeMap::from([(record.object, Entry::Live(Box::new(record)))]),
        heads: BTreeMap::from([("ledger".to_owned(), head)]),
        ..Delta::default()
    }
}

fn envelope(form: Form, body: &Body) -> Base {
    let envelope = Envelope {
        form,
        version: envelope::VERSION,
        vault: Uuid::from_u128(1),
        epoch: 2,
        generation: 3,
        provider: provider::Kind::Key,
        params: vec![8; 4],
        key_check: [4; 32],
    };
    let sealed = envelope::seal(&envelope, root(), body, &Delta::default(), &body.audit);
    sealed.expect("memory")
}

fn body() -> Body {
    let mut body = Body::new().expect("random bytes");
    let mut all = delta();
    all.subjects
        .insert([1; 16], Secret::write(|out| out.fill(2)));
    all.fill(record, 1);
    let audit = Mark {
        head: Head {
            seq: 2,
            hash: [7; 32],
        },
        last: 64,
        end: 200,
    };
    body.apply(all, audit);
    body
}

fn record(n: u128) -> KeyRecord {
    KeyRecord {
        object: Uuid::from_u128(n),
        kind: if n == 3 { Kind::Rows } else { Kind::Data },
        key_record: Uuid::from_u128(n + 10),
        subject: if n == 9 { [9; 16] } else { [1; 16] },
        rows: (n == 2).then(|| Uuid::from_u128(3)),
        wrapped: [5; WRAPPED],
        header_mac: [6; 32],
        length: 7,
        created: 8,
        name: (n != 2).then(|| "new.csv".to_owned()),
    }
}

fn facts() -> DatasetFacts {
    DatasetFacts {
        purposes: BTreeSet::from(["research".to_owned()]),
        columns: vec!["height".to_owned()],
        approved_columns: BTreeSet::from(["height".to_owned()]),
        min_rows: 1,
        min_subjects: 1,
        require_dp: false,
        require_secure_aggregation: false,
        budget_micro_epsilon: 1_000_000,
        controller: "clinic".to_owned(),
        ..DatasetFacts::default()
    }
}

fn governed(layout: &Layout) -> Vec<u8> {
    let index = RowIndex {
        classes: vec![Class {
            basis: "consent".to_owned(),
            delete_after: Some(30_000),
            special: false,
        }],
        class_of: vec![0, 0],
        subjects: vec![[1; 16], [2; 16]],
    };
    let bytes = dataset::encode(Uuid::from_u128(2), layout, &facts(), &index);
    bytes.expect("encodable").to_vec()
}

fn records() -> Vec<u8> {
    governed(&Layout::Records(RecordSchema {
        columns: vec![Column {
            name: "height".to_owned(),
            dtype: Dtype::F32,
            count: 1,
        }],
    }))
}

fn table() -> Vec<u8> {
    governed(&Layout::Table(TableSchema {
        layout: TableTag::Table,
        format: "csv".to_owned(),
        columns: vec![TableColumn {
            name: "height".to_owned(),
            kind: "int64".to_owned(),
        }],
        rows: 2,
        csv: None,
        about: None,
    }))
}
