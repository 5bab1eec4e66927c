//! One JSON object, one text: what is hashed must not depend on who wrote it.

use serde_json::Value;

use crate::error::AuditError;

/// `serde_json` reads at most 128 levels; what is written must be readable.
const MAX_DEPTH: usize = 64;

/// The canonical bytes of a record: sorted keys, no whitespace, no fractions.
///
/// Keys are sorted here and not by the map: whether `serde_json` keeps insertion order is decided by features that
/// any crate of the build may switch on.
pub(crate) fn canonical(body: &Value) -> Result<Vec<u8>, AuditError> {
    if !body.is_object() {
        return Err(AuditError::NotCanonical {
            reason: "it is not a JSON object",
        });
    }
    let mut out = Vec::with_capacity(512);
    write(body, &mut out, MAX_DEPTH)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), AuditError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(AuditError::NotCanonical {
            reason: "it is nested deeper than 64 levels",
        });
    };
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        // Languages print the same fraction differently; integers in small units have one form everywhere.
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            out.extend(number.to_string().into_bytes());
        }
        Value::Number(_) => {
            return Err(AuditError::NotCanonical {
                reason: "a number is not a 64-bit integer: use integers of a smaller unit",
            });
        }
        Value::String(text) => write_text(text, out)?,
        Value::Array(values) => {
            out.push(b'[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(value, out, depth)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            // UTF-8 sorts by bytes as it does by code points.
            entries.sort_unstable_by_key(|(key, _)| key.as_bytes());
            out.push(b'{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_text(key, out)?;
                out.push(b':');
                write(value, out, depth)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), AuditError> {
    serde_json::to_writer(out, text).map_err(|_| AuditError::NotCanonical {
        reason: "a text cannot be written",
    })
}

/// Reads a payload; `None` unless it is exactly what [`canonical`] writes.
pub(crate) fn parse(payload: &[u8]) -> Option<Value> {
    let body: Value = serde_json::from_slice(payload).ok()?;
    let again = canonical(&body).ok()?;
    (again == payload).then_some(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(body: &Value) -> String {
        String::from_utf8(canonical(body).unwrap()).unwrap()
    }

    #[test]
    fn keys_are_sorted_by_code_point_and_nothing_else_is_escaped() {
        let body = json!({"b": [1, -2, u64::MAX], "a": {"é": "ü\n\u{1f}\u{7f}\"\\", "z": null}, "\u{10000}": true, "\u{ffff}": false});
        assert_eq!(
            text(&body),
            "{\"a\":{\"z\":null,\"é\":\"ü\\n\\u001f\u{7f}\\\"\\\\\"},\"b\":[1,-2,18446744073709551615],\"\u{ffff}\":false,\"\u{10000}\":true}"
        );
    }

    #[test]
    fn what_has_no_single_text_is_refused() {
        let mut deep = json!(1);
        for _ in 0..70 {
            deep = json!([deep]);
        }
        for body in [
            json!([1]),
            json!("x"),
            json!({"x": 0.5}),
            json!({"x": 1e30}),
            json!({"x": deep}),
        ] {
            assert!(
                matches!(canonical(&body), Err(AuditError::NotCanonical { .. })),
                "{body}"
            );
        }
    }

    #[test]
    fn another_spelling_of_the_same_object_is_not_read() {
        assert!(parse(br#"{"a":1,"b":2}"#).is_some());
        for payload in [
            r#"{"b":2,"a":1}"#,
            r#"{"a": 1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":1.0}"#,
            "{}\n",
            "[]",
            "{",
        ] {
            assert!(parse(payload.as_bytes()).is_none(), "{payload}");
        }
    }

    proptest! {
        #[test]
        fn canonical_bytes_read_back_to_the_same_object(key in ".*", value in ".*", number: i64) {
            let body = json!({key: value, "n": [number, {"t": true}]});
            let bytes = canonical(&body).unwrap();
            prop_assert_eq!(parse(&bytes), Some(body));
        }
    }
}
