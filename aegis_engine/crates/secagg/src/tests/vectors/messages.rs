//! Every message: what its bytes mean, and bytes that mean nothing.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::{assert_refused, bytes, list, number, read, text};
use crate::message::{
    Advert, Commit, CommitRequest, MaskedInput, MaskedRequest, Sets, ShareReply, ShareRequest,
    UnmaskReply, UnmaskRequest,
};
use crate::ring::RingWidth;
use crate::shamir::Share;
use crate::wire::Header;
use crate::{ClientRun, Plan, SecAggError};

fn advert(advert: &Advert) -> Value {
    json!({
        "node": advert.node,
        "identity": HEXLOWER.encode(&advert.identity),
        "channel": HEXLOWER.encode(&advert.channel),
        "policy": HEXLOWER.encode(&advert.policy),
        "min_cohort": advert.min_cohort,
        "signature": HEXLOWER.encode(&advert.signature),
    })
}

fn plan(plan: &Plan) -> Value {
    json!({
        "dim": plan.dim,
        "n_max": plan.n_max,
        "clip": plan.encoding.clip,
        "value_bits": plan.encoding.value_bits,
        "weight_max": plan.encoding.weight_max,
        "metric_max": plan.encoding.metric_max,
        "metrics": plan.metrics,
    })
}

fn sets(sets: &Sets) -> Value {
    let places =
        |is: &dyn Fn(u32) -> bool| (0..sets.cohort()).filter(|i| is(*i)).collect::<Vec<_>>();
    json!({
        "n": sets.cohort(),
        "shared": places(&|i| sets.shared(i)),
        "survivors": places(&|i| sets.survived(i)),
    })
}

fn by_node<T>(items: &[(u64, T)], field: &str, show: impl Fn(&T) -> String) -> Value {
    let item = |(node, item): &(u64, T)| json!({"node": node, field: show(item)});
    items.iter().map(item).collect()
}

fn shares(items: &[(u64, Share)]) -> Value {
    by_node(items, "share", |share| {
        HEXLOWER.encode(&share.to_bytes()[..])
    })
}

/// A message's fields as the vectors write them, and the message written again. A client's state shows no fields here: its
/// meaning is tested by what the client answers.
fn described(kind: &str, data: &[u8], of: &Value) -> Result<(Option<Value>, Vec<u8>), SecAggError> {
    let headed = |header: &Header, mut body: Value| {
        body["kind"] = kind.into();
        body["run"] = header.run.into();
        body["round"] = header.round.into();
        body["node"] = header.node.into();
        Some(body)
    };
    Ok(match kind {
        "advert" => {
            let (h, m) = Advert::from_bytes(data)?;
            (headed(&h, advert(&m)), m.to_bytes(h.run))
        }
        "share request" => {
            let (h, m) = ShareRequest::from_bytes(data)?;
            let shape = json!({
                "degree": m.shape.degree,
                "threshold": m.shape.threshold,
                "commit": m.shape.commit,
            });
            let cohort: Value = m.cohort.iter().map(advert).collect();
            let body = json!({"shape": shape, "plan": plan(&m.plan), "cohort": cohort});
            (headed(&h, body), m.to_bytes(h.run, h.round))
        }
        "share reply" => {
            let (h, m) = ShareReply::from_bytes(data)?;
            let body = json!({
                "mask_key": HEXLOWER.encode(&m.key.mask_key),
                "signature": HEXLOWER.encode(&m.key.signature),
                "seed_check": HEXLOWER.encode(&m.seed_check),
                "sealed": by_node(&m.sealed, "sealed", |sealed| HEXLOWER.encode(sealed)),
            });
            (headed(&h, body), m.to_bytes(h.run, h.round))
        }
        "masked request" => {
            let (h, m) = MaskedRequest::from_bytes(data)?;
            let keys = m.keys.iter().map(|key| {
                let (mask_key, signature) = (
                    HEXLOWER.encode(&key.mask_key),
                    HEXLOWER.encode(&key.signature),
                );
                json!({"node": key.node, "mask_key": mask_key, "signature": signature})
            });
            let body = json!({
                "keys": keys.collect::<Value>(),
                "sealed": by_node(&m.sealed, "sealed", |sealed| HEXLOWER.encode(sealed)),
            });
            (headed(&h, body), m.to_bytes(h.run, h.round, h.node))
        }
        "masked input" => {
            let width = u8::try_from(number(&of["width"])).unwrap();
            let width = RingWidth::from_bytes(width).unwrap();
            let len = usize::try_from(number(&of["elements"])).unwrap();
            let (h, m) = MaskedInput::from_bytes(data, width, len)?;
            let again = [&MaskedInput::prefix(&h, width, len)[..], m.packed].concat();
            let packed = HEXLOWER.encode(m.packed);
            let body = json!({"width": width.bytes(), "elements": len, "packed": packed});
            (headed(&h, body), again)
        }
        "unmask request" => {
            let (h, m) = UnmaskRequest::from_bytes(data)?;
            let body = json!({
                "sets": sets(&m.sets),
                "commits": by_node(&m.commits, "signature", |signature| HEXLOWER.encode(signature)),
                "next": HEXLOWER.encode(m.next.unwrap_or_default()),
            });
            (headed(&h, body), m.to_bytes(h.run, h.round, h.node))
        }
        "unmask reply" => {
            let (h, m) = UnmaskReply::from_bytes(data)?;
            let body = json!({
                "seeds": shares(&m.seeds),
                "secrets": shares(&m.secrets),
                "next": HEXLOWER.encode(m.next.unwrap_or_default()),
            });
            (headed(&h, body), m.to_bytes(h.run, h.round, h.node))
        }
        "commit request" => {
            let (h, m) = CommitRequest::from_bytes(data)?;
            (
                headed(&h, json!({"sets": sets(&m.sets)})),
                m.to_bytes(h.run, h.round),
            )
        }
        "commit" => {
            let (h, m) = Commit::from_bytes(data)?;
            let body = json!({"signature": HEXLOWER.encode(&m.signature)});
            (headed(&h, body), m.to_bytes(h.run, h.round, h.node))
        }
        "client state" => (None, ClientRun::from_bytes(data)?.to_bytes().to_vec()),
        other => panic!("no such kind: {other}"),
    })
}

#[test]
fn good_messages_mean_what_the_vectors_say_and_are_written_back_alike() {
    let vectors = read("messages_good");
    assert!(list(&vectors).len() >= 60);
    for vector in list(&vectors) {
        let (name, data) = (text(&vector["name"]), bytes(&vector["hex"]));
        let (fields, again) = described(text(&vector["kind"]), &data, &vector["fields"]).unwrap();
        assert!(
            fields.is_none_or(|fields| fields == vector["fields"]),
            "{name}"
        );
        assert_eq!(again, data, "{name}");
    }
}

#[test]
fn bad_messages_are_refused_by_the_codec_with_the_named_error() {
    let vectors = read("messages_bad");
    let codec = list(&vectors)
        .iter()
        .filter(|vector| vector["to"] == "codec");
    let mut count = 0;
    for vector in codec {
        let data = bytes(&vector["hex"]);
        assert_refused(described(text(&vector["kind"]), &data, vector), vector);
        count += 1;
    }
    assert!(count >= 90, "{count}");
}
