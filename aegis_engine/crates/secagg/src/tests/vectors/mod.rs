//! The frozen vectors of `tests/vectors/secagg/v2/`, made by an independent implementation (`tests/reference/secagg/`)
//! that was written from `docs/SECURE_AGGREGATION.md`; pytest reads the same files.

mod messages;
mod primitives;
mod rounds;

use serde_json::Value;

use crate::{Encoding, Plan, SecAggError};

/// One file, parsed.
fn read(name: &str) -> Value {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../tests/vectors/secagg/v2"
    );
    let text = std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap()
}

fn integers(value: &Value) -> Vec<i64> {
    list(value).iter().map(|x| x.as_i64().unwrap()).collect()
}

/// Bytes written in hex.
fn bytes(value: &Value) -> Vec<u8> {
    let digits = text(value).as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// Little-endian `f32` values written in hex.
fn floats(value: &Value) -> Vec<f32> {
    let bytes = bytes(value);
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|word| f32::from_le_bytes(*word)).collect()
}

fn plan(value: &Value) -> Plan {
    let names = list(&value["metrics"]).iter();
    Plan {
        dim: number(&value["dim"]),
        metrics: names.map(|name| text(name).to_owned()).collect(),
        encoding: Encoding {
            clip: value["clip"].as_f64().unwrap(),
            value_bits: u8::try_from(number(&value["value_bits"])).unwrap(),
            weight_max: number(&value["weight_max"]),
            metric_max: number(&value["metric_max"]),
        },
        n_max: small(&value["n_max"]),
    }
}

/// The vectors name errors as the enum does.
fn variant(error: &SecAggError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{']).next().unwrap().to_owned()
}

/// The error that a vector expects, by name and code.
fn assert_refused<T>(found: Result<T, SecAggError>, expected: &Value) {
    let name = text(&expected["name"]);
    let Err(error) = found else {
        panic!("{name}: taken");
    };
    assert_eq!(variant(&error), expected["error"], "{name}: {error}");
    if let Some(code) = expected.get("code") {
        assert_eq!(error.code(), code, "{name}");
    }
}
