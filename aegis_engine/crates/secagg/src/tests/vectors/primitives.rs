//! Keys, shares, masks, graphs and numbers.

use data_encoding::HEXLOWER;
use std::collections::BTreeMap;

use serde_json::Value;

use super::{array, assert_refused, bytes, floats, integers, list, number, read, small, text};
use crate::client::share::COHORT;
use crate::graph::Ring;
use crate::keys::{self, Exchange, Position};
use crate::mask::{CHUNK, Mask, Scratch, apply};
use crate::message::{Commit, RoundKey, Sets};
use crate::ring::{RingWidth, pack};
use crate::secret::Key32;
use crate::shamir::{self, SHARE_LEN, Share};
use crate::wire::Header;
use crate::{Encoding, Plan, SecAggError, encode};

fn secret(value: &Value) -> Key32 {
    Key32::new(array(value))
}

#[test]
fn keys_and_hashes_are_the_documents() {
    let v = read("keys");
    let place = Position {
        run: number(&v["run"]),
        round: number(&v["round"]),
        transcript: array(&v["transcript"]),
    };
    let bound = place.bound(array(&v["binding"]));
    let [a, b] = [0, 1].map(|i| number(&v["nodes"][i]));
    let [mine, theirs] = [0, 1].map(|i| Exchange::new(&secret(&v["secrets"][i])).unwrap());
    let public = [0, 1].map(|i| array(&v["public"][i]));
    assert_eq!(mine.public_key().unwrap(), public[0]);
    let root = keys::channel_root(place.run, &mine, a, b, &public[1]).unwrap();
    let other_end = keys::channel_root(place.run, &theirs, b, a, &public[0]);
    assert_eq!(
        [&root, &other_end.unwrap()],
        [&secret(&v["channel_root"]); 2]
    );
    for (way, expected) in [(a, b), (b, a)].into_iter().zip(list(&v["channel_keys"])) {
        assert_eq!(place.channel_key(&root, way).unwrap(), secret(expected));
    }
    for key in [
        bound.pair_mask_key(&mine, a, b, &public[1]),
        bound.pair_mask_key(&theirs, b, a, &public[0]),
    ] {
        assert_eq!(key.unwrap(), secret(&v["pair_mask_key"]));
    }
    let self_key = bound.self_mask_key(&array(&v["seed"]), a).unwrap();
    assert_eq!(self_key, secret(&v["self_mask_key"]));
    let check = place.seed_check(&array(&v["seed"]), a).unwrap();
    assert_eq!(check[..], bytes(&v["seed_check"]));
    for point in list(&v["small_order"]) {
        let refused = bound.pair_mask_key(&mine, a, b, &array(point)).unwrap_err();
        assert_eq!(refused, SecAggError::KeyAgreement { node: b });
    }

    let transcript = keys::hash(COHORT, &[&bytes(&v["share_request"])]);
    assert_eq!(transcript, array(&v["share_request_transcript"]));
    let has = |list: &Value, i: u32| list.as_array().unwrap().contains(&i.into());
    let sets = &v["sets"];
    let sets = Sets::new(
        small(&sets["n"]),
        |i| has(&sets["shared"], i),
        |i| has(&sets["survivors"], i),
    );
    let sets_hash = Commit::hash(&place.transcript, &array(&v["binding"]), &sets);
    assert_eq!(sets_hash, array(&v["sets_hash"]));
    let identity = keys::identity(&array(&v["identity_seed"])).unwrap();
    assert_eq!(identity, array(&v["identity"]));
    let header = Header {
        run: place.run,
        round: place.round,
        node: a,
    };
    let signed = RoundKey::signed(&header, &place.transcript, &public[0]);
    assert_eq!(signed, bytes(&v["signed_key"]));
    assert_eq!(
        Commit::signed(&header, &sets_hash),
        bytes(&v["signed_sets"])
    );
}

fn combined(shares: &Value) -> Option<Key32> {
    let xs: Vec<u64> = list(shares).iter().map(|one| number(&one["x"])).collect();
    let share = |one: &Value| Share::from_bytes(&array(&one["share"])).unwrap();
    let shares: Vec<Share> = list(shares).iter().map(share).collect();
    shamir::combine(&shamir::weights(&xs), shares.iter())
}

#[test]
fn shares_of_the_vectors_give_their_secrets_and_wrong_ones_nothing() {
    let v = read("shamir");
    assert_eq!(list(&v["good"]).len(), 10);
    for good in list(&v["good"]) {
        assert_eq!(combined(&good["shares"]), Some(secret(&good["secret"])));
    }
    assert_eq!(list(&v["bad"]).len(), 4);
    for bad in list(&v["bad"]) {
        let found = combined(&bad["shares"]).ok_or(SecAggError::SharesDisagree { node: 0 });
        assert_refused(found, bad);
    }
}

#[test]
fn sealed_shares_of_the_vectors_open_and_altered_ones_do_not() {
    let v = read("sealed");
    let root = secret(&v["root"]);
    let open = |one: &Value| -> Result<String, SecAggError> {
        let place = Position {
            run: number(&v["run"]),
            round: number(&one["round"]),
            transcript: array(&v["transcript"]),
        };
        let way = (number(&one["source"]), number(&one["destination"]));
        let key = place.channel_key(&root, way)?;
        let pair = place.open(&key, way, &array(&one["sealed"]))?;
        let halves = pair.as_chunks::<SHARE_LEN>().0;
        if halves.iter().any(|half| Share::from_bytes(half).is_none()) {
            return Err(SecAggError::ShareRejected { node: way.0 });
        }
        Ok(HEXLOWER.encode(&pair[..]))
    };
    assert_eq!(open(&v["good"]).unwrap(), text(&v["good"]["pair"]));
    assert_eq!(list(&v["bad"]).len(), 6);
    for bad in list(&v["bad"]) {
        assert_refused(open(bad), bad);
    }
}

#[test]
fn masks_of_every_width_are_the_documents_in_whole_and_in_part_chunks() {
    let vectors = read("masks");
    assert_eq!(list(&vectors).len(), 7 * 3);
    for v in list(&vectors) {
        let width = u8::try_from(number(&v["width"])).unwrap();
        let width = RingWidth::from_bytes(width).unwrap();
        let mut lanes = vec![0u64; usize::try_from(number(&v["count"])).unwrap()];
        let mask = [Mask::new(&secret(&v["key"]), false).unwrap()];
        let mut scratch = Scratch::new(width);
        for (chunk, lanes) in lanes.chunks_mut(CHUNK).enumerate() {
            apply(width, lanes, chunk, &mask, &mut scratch).unwrap();
        }
        let some: BTreeMap<usize, u64> = serde_json::from_value(v["elements"].clone()).unwrap();
        assert!(some.len() >= 4);
        for (place, element) in some {
            assert_eq!(lanes[place], element, "{} bits, {place}", width.bits());
        }
        let mut packed = vec![0; lanes.len() * width.bytes()];
        pack(width, &lanes, &mut packed);
        assert_eq!(keys::hash(b"", &[&packed]), array(&v["sha256"]));
    }
}

#[test]
fn rings_of_the_vectors_have_their_neighbours() {
    let vectors = read("graph");
    assert_eq!(list(&vectors).len(), 4);
    for v in list(&vectors) {
        let n = small(&v["n"]);
        let ring = Ring::new(&array(&v["transcript"]), n).unwrap();
        let order: Vec<u32> = list(&v["order"]).iter().map(small).collect();
        for degree in [2, 4, 10].into_iter().filter(|degree| *degree < n) {
            for (at, place) in order.iter().enumerate() {
                let (half, len) = (degree as usize / 2, order.len());
                let steps = (len - half..len).chain(1..=half);
                let mut near: Vec<u32> = steps.map(|step| order[(at + step) % len]).collect();
                near.sort_unstable();
                assert_eq!(
                    ring.neighbours(*place, degree),
                    near,
                    "{n} {degree} {place}"
                );
            }
        }
        for (place, near) in v["neighbours"].as_object().unwrap() {
            let near: Vec<u32> = list(near).iter().map(small).collect();
            assert_eq!(ring.neighbours(place.parse().unwrap(), 2), near);
        }
    }
}

#[test]
fn floats_become_the_integers_of_the_vectors() {
    let vectors = read("encode");
    assert!(list(&vectors).len() >= 6);
    for v in list(&vectors) {
        let update = floats(&v["update"]);
        let plan = Plan {
            dim: update.len() as u64,
            metrics: vec!["loss".into(), "größe".into()],
            encoding: Encoding {
                clip: f64::from_le_bytes(array(&v["clip"])),
                value_bits: u8::try_from(number(&v["value_bits"])).unwrap(),
                weight_max: number(&v["weight_max"]),
                metric_max: number(&v["metric_max"]),
            },
            n_max: small(&v["n_max"]),
        };
        assert_eq!(plan.width().unwrap().bytes() as u64, number(&v["width"]));
        let metrics = integers(&v["metrics"]);
        let found = encode(&update, number(&v["weight"]), &metrics, &plan);
        assert_eq!(found.unwrap(), integers(&v["integers"]));
    }
}
