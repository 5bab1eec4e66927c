//! Datasets: rows and columns that a permit opens, and nothing else of them.

mod permits;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aegis_policy::{Bundle, Class, DatasetFacts, Engine, PermitError, Request, RowIndex};
use proptest::prelude::*;

use super::*;
use crate::{Column, Dtype, RecordSchema, VaultError};

const ROWS: u32 = 400;

/// 4 + 1 + 3·100·4 + 8 bytes: records cross the 64 KiB chunks.
fn schema() -> RecordSchema {
    let column = |name: &str, dtype, count| Column {
        name: name.to_owned(),
        dtype,
        count,
    };
    RecordSchema {
        columns: vec![
            column("id", Dtype::I32, 1),
            column("label", Dtype::U8, 1),
            column("pixels", Dtype::F32, 300),
            column("salary", Dtype::F64, 1),
        ],
    }
}

fn facts() -> DatasetFacts {
    let names: Vec<String> = schema()
        .columns
        .into_iter()
        .map(|column| column.name)
        .collect();
    DatasetFacts {
        purposes: BTreeSet::from(["research".to_owned()]),
        approved_columns: names
            .iter()
            .filter(|name| *name != "salary")
            .cloned()
            .collect(),
        columns: names,
        min_rows: 1,
        min_subjects: 1,
        require_dp: false,
        require_secure_aggregation: false,
        budget_micro_epsilon: 0,
        controller: "hospital".to_owned(),
        ..DatasetFacts::default()
    }
}

/// Even rows rest on consent, odd ones on a contract; one subject a row.
pub(super) fn dataset(vault: &Vault) -> (Uuid, Vec<u8>, RowIndex) {
    let data = noise(schema().record_len() * ROWS as usize);
    let class = |basis: &str| Class {
        basis: basis.to_owned(),
        delete_after: None,
        special: false,
    };
    let index = RowIndex {
        classes: vec![class("consent"), class("contract")],
        class_of: (0..ROWS)
            .map(|row| u16::try_from(row % 2).unwrap())
            .collect(),
        subjects: (0..ROWS)
            .map(|row| vault.pseudonym(&format!("person {row}")).unwrap())
            .collect(),
    };
    let id = vault
        .store_records(Meta::named("d"), &schema(), &data, &index, &facts())
        .unwrap();
    (id, data, index)
}

fn ask(vault: &Vault, object: Uuid, columns: &[&str]) -> Request {
    Request {
        vault: vault.id(),
        object,
        action: Action::Train,
        purpose: "research".to_owned(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        run: "run".to_owned(),
        round: 1,
        app_hash: "00".repeat(32),
        valid_for: Duration::from_mins(1),
        today: None,
        node: "node".to_owned(),
    }
}

fn governed() -> (TempDir, Vault, Engine, Uuid, Vec<u8>, RowIndex) {
    let (dir, vault) = vault();
    let (id, data, index) = dataset(&vault);
    let consenting: Vec<_> = index.subjects.iter().step_by(4).copied().collect();
    vault
        .consent()
        .unwrap()
        .grant_many(&consenting, "research")
        .unwrap();
    let bundle = Bundle::core();
    vault.govern(&bundle).unwrap();
    (dir, vault, Engine::new(bundle).unwrap(), id, data, index)
}

fn authorize(
    vault: &Vault,
    engine: &Engine,
    request: &Request,
) -> Result<Arc<Permit>, aegis_policy::PolicyError> {
    let dataset = vault.dataset(request.object).unwrap();
    let authorized = engine.authorize(
        request,
        &dataset.facts,
        &dataset.index,
        None,
        vault.consent().unwrap(),
        vault.audit(),
    )?;
    Ok(Arc::new(authorized.permit))
}

/// What a correct projection gives.
fn expected(data: &[u8], row: u32, columns: &[&str]) -> Vec<u8> {
    let schema = schema();
    let record = &data[row as usize * schema.record_len()..][..schema.record_len()];
    let cut = |name: &&str| {
        let (at, column) = schema.find(name).unwrap();
        record[at..at + column.bytes()].to_vec()
    };
    columns.iter().flat_map(cut).collect()
}

#[test]
fn governance_rows_are_decrypted_once_while_they_are_the_same() {
    let (_dir, vault) = vault();
    let (id, ..) = dataset(&vault);
    let before = vault.governance_reads();
    let first = vault.dataset(id).unwrap();
    assert!(Arc::ptr_eq(&first, &vault.dataset(id).unwrap()));
    vault.rename(id, "e").unwrap();
    assert!(Arc::ptr_eq(&first, &vault.dataset(id).unwrap()));
    assert_eq!(vault.governance_reads(), before + 1);
    let rows: Uuid = vault.stat(id).unwrap().attrs["aegis.rows"].parse().unwrap();
    let path = vault.inner.paths.object(rows);
    let bytes = fs::read(path.path()).unwrap();
    fs::remove_file(path.path()).unwrap();
    assert_eq!(
        vault.dataset(id).unwrap_err().code(),
        "AEG-V012",
        "a file that is gone is missed"
    );
    fs::write(path.path(), bytes).unwrap();
    vault.shred(id, None).unwrap();
    assert_eq!(vault.dataset(id).unwrap_err().code(), "AEG-V014");
}

#[test]
fn a_dataset_comes_back_with_schema_facts_and_index() {
    let (_dir, vault) = vault();
    let (id, data, index) = dataset(&vault);
    let dataset = Vault::open(vault.path(), &provider())
        .unwrap()
        .dataset(id)
        .unwrap();
    assert_eq!(
        (
            dataset.records().unwrap().clone(),
            dataset.facts.clone(),
            dataset.rows
        ),
        (
            schema(),
            aegis_policy::DatasetFacts {
                lineages: vault.lineages(id).unwrap(),
                ..facts()
            },
            ROWS
        )
    );
    assert!(dataset.index == index);
    let list = vault.list().unwrap();
    assert_eq!(
        (list.len(), list[0].id, list[0].bytes),
        (1, id, data.len() as u64)
    );
    assert_eq!(vault.verify_all(None).unwrap().len(), 2);
}

#[test]
fn only_permitted_columns_of_permitted_rows_come_out() {
    let (_dir, vault, engine, id, data, _) = governed();
    let columns = ["pixels", "id"]; // not the order of the record
    let permit = authorize(&vault, &engine, &ask(&vault, id, &columns)).unwrap();
    let reader = vault.records(&permit, id).unwrap();
    // Odd rows by contract, every fourth by consent.
    let allowed: Vec<u32> = (0..ROWS)
        .filter(|row| row % 2 == 1 || row % 4 == 0)
        .collect();
    assert_eq!(reader.rows().as_slice(), &allowed[..]);
    let names: Vec<&str> = reader
        .columns()
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(
        (names.as_slice(), reader.record_len()),
        (&columns[..], 1204)
    );
    let mut asked = allowed.clone();
    asked.reverse();
    asked.push(asked[0]); // a row twice is fine
    let mut out = vec![0; asked.len() * 1204];
    reader.read_rows(&asked, &mut out).unwrap();
    for (row, record) in asked.iter().zip(out.chunks(1204)) {
        assert_eq!(record, expected(&data, *row, &columns), "row {row}");
    }
    // One denied row among permitted ones: nothing comes out.
    let mut out = vec![7; 2 * 1204];
    let error = reader.read_rows(&[1, 2], &mut out).unwrap_err();
    assert!(
        matches!(error, VaultError::Permit(PermitError::Scope { .. })),
        "{error}"
    );
    assert!(out.iter().all(|b| *b == 0));
    assert!(reader.read_rows(&[ROWS + 1], &mut out[..1204]).is_err());
    assert!(matches!(
        reader.read_rows(&[1], &mut out),
        Err(VaultError::BadRequest { .. })
    ));
    // The whole object is out of its scope.
    assert!(matches!(
        vault.reader(&permit, id),
        Err(VaultError::Permit(PermitError::Scope { .. }))
    ));
    // An unapproved column does not even get a permit.
    assert!(authorize(&vault, &engine, &ask(&vault, id, &["salary"])).is_err());
}

#[test]
fn shredding_a_dataset_shreds_its_governance_rows() {
    let (_dir, vault) = vault();
    let (id, ..) = dataset(&vault);
    let rows: Uuid = vault.stat(id).unwrap().attrs["aegis.rows"].parse().unwrap();
    assert!(matches!(
        vault.shred(rows, None),
        Err(VaultError::BadRequest { .. })
    ));
    let receipt = vault.shred(id, None).unwrap();
    assert_eq!(receipt.objects, [id, rows]);
    assert!(matches!(
        vault.dataset(id),
        Err(VaultError::ObjectShredded { .. })
    ));
    assert!(vault.verify_all(None).unwrap().is_empty());
}

#[test]
fn governance_rows_are_not_readable_with_a_permit_and_plain_data_not_without() {
    let (_dir, vault) = vault();
    let (id, ..) = dataset(&vault);
    let rows: Uuid = vault.stat(id).unwrap().attrs["aegis.rows"].parse().unwrap();
    assert!(matches!(
        vault.reader(&owner(&vault, rows), rows),
        Err(VaultError::Permit(_))
    ));
    // An ordinary object that only claims to be governance metadata.
    let meta = Meta {
        media_type: crate::ROWS_MEDIA_TYPE.to_owned(),
        ..unused()
    };
    let plain = vault.store_bytes(b"x", meta).unwrap();
    assert!(matches!(
        vault.dataset(plain),
        Err(VaultError::NotRecords { .. })
    ));
}

#[test]
fn data_schema_index_and_facts_must_agree() {
    let (_dir, vault) = vault();
    let (_, data, index) = dataset(&vault);
    let store = |schema: &RecordSchema, data: &[u8], facts: &DatasetFacts| {
        vault.store_records(Meta::named("d"), schema, data, &index, facts)
    };
    assert!(matches!(
        store(&schema(), &data[1..], &facts()),
        Err(VaultError::BadRequest { .. })
    ));
    let mut other = facts();
    other.columns.reverse();
    assert!(matches!(
        store(&schema(), &data, &other),
        Err(VaultError::BadRequest { .. })
    ));
    let mut twice = schema();
    twice.columns[1].name = "id".to_owned();
    assert!(matches!(
        store(&twice, &data, &facts()),
        Err(VaultError::BadRequest { .. })
    ));
    assert_eq!(vault.list().unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_rows_in_any_order_of_any_columns_equal_the_plaintext(
        batches in prop::collection::vec(prop::collection::vec(0..ROWS, 0..64), 1..4),
        names in Just(vec!["id", "label", "pixels"]).prop_shuffle(),
        take in 1_usize..4,
    ) {
        let (_dir, vault, engine, id, data, _) = governed();
        let columns = &names[..take];
        let permit = authorize(&vault, &engine, &ask(&vault, id, columns)).unwrap();
        let reader = vault.records(&permit, id).unwrap();
        for batch in batches {
            let rows: Vec<u32> = batch.into_iter().filter(|row| reader.rows().contains(*row)).collect();
            let mut out = vec![0; rows.len() * reader.record_len()];
            reader.read_rows(&rows, &mut out).unwrap();
            let want: Vec<u8> = rows.iter().flat_map(|row| expected(&data, *row, columns)).collect();
            prop_assert_eq!(out, want);
        }
    }
}
