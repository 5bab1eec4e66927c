//! Whole rounds with fixed secrets: clients restored from the vectors' states answer with the vectors' bytes, and the server
//! makes the vectors' requests and sum.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{array, assert_refused, bytes, floats, integers, list, number, plan, read, text};
use crate::message::ShareReply;
use crate::{ClientRun, Profile, SecAggError, ServerRun};

fn server(round: &Value) -> ServerRun {
    let mut server = ServerRun::new(number(&round["run"]), plan(&round["plan"]), 2).unwrap();
    server.bind(array(&round["binding"]));
    let commit = round["commit"].as_bool().unwrap();
    server.with_profile(Profile::Complete { commit })
}

fn nodes(round: &Value) -> Vec<u64> {
    let clients = list(&round["clients"]).iter();
    clients.map(|client| number(&client["node"])).collect()
}

/// The server's message of this kind to a node.
fn said(
    server: &mut ServerRun,
    round: &Value,
    kind: &str,
    to: u64,
) -> Result<Vec<u8>, SecAggError> {
    match kind {
        "share request" => server.begin_round(number(&round["round"]), &nodes(round)),
        "masked request" => {
            server.end_shares()?;
            server.masked_request(to)
        }
        "commit request" => {
            server.end_masked()?;
            server.commit_request()
        }
        "unmask request" => {
            server.end_masked()?;
            server.unmask_request(to, None)
        }
        other => panic!("a server says no {other}"),
    }
}

/// A client's message reaches the server.
fn take(server: &mut ServerRun, kind: &str, node: u64, data: &[u8]) -> Result<(), SecAggError> {
    match kind {
        "advert" => server.add_advert(node, data).map(|_| ()),
        "share reply" => server.add_share(node, data),
        "masked input" => server.add_masked(node, data),
        "commit" => server.add_commit(node, data),
        "unmask reply" => server.add_unmask(node, data).map(|_| ()),
        other => panic!("a server takes no {other}"),
    }
}

/// A client's answer to a request of this kind; `of` has its contribution where it masks.
fn answer(
    client: &mut ClientRun,
    kind: &str,
    request: &[u8],
    of: &Value,
) -> Result<Vec<u8>, SecAggError> {
    match kind {
        "share request" => client.share(request),
        "masked request" => {
            let (update, metrics) = (floats(&of["update"]), integers(&of["metrics"]));
            let binding = array(&of["binding"]);
            client.masked_input(request, &binding, &update, number(&of["weight"]), &metrics)
        }
        "commit request" => client.commit(request),
        "unmask request" => client.unmask(request),
        other => panic!("a client answers no {other}"),
    }
}

/// A client of a round as it was before an answer of this kind, and the state it has after it.
fn around<'a>(of: &'a Value, kind: &str, commit: bool) -> (ClientRun, Option<&'a Value>) {
    let (before, after) = match kind {
        "advert" | "share reply" => ("fresh", None), // shares are random: the state after them is given
        "masked input" => ("shared", Some("masked")),
        "commit" => ("masked", Some("committed")),
        _ if commit => ("committed", Some("unmasked")),
        _ => ("masked", Some("unmasked")),
    };
    let client = ClientRun::from_bytes(&bytes(&of["states"][before])).unwrap();
    (client, after.map(|after| &of["states"][after]))
}

#[test]
fn whole_rounds_of_the_vectors_are_answered_byte_for_byte_and_give_their_sum() {
    let vectors = read("whole_round");
    for name in ["plain", "commit"] {
        let round = &vectors[name];
        let mut server = server(round);
        let mut asked: BTreeMap<u64, (String, Vec<u8>)> = BTreeMap::new();
        for message in list(&round["messages"]) {
            let (kind, data) = (text(&message["kind"]), bytes(&message["hex"]));
            let (from, to) = (number(&message["from"]), number(&message["to"]));
            if from == 0 {
                let found = said(&mut server, round, kind, to).unwrap();
                assert_eq!(found, data, "{name}: {kind} to {to}");
                let all = nodes(round);
                for node in all.into_iter().filter(|node| to == 0 || to == *node) {
                    asked.insert(node, (kind.to_owned(), data.clone()));
                }
                continue;
            }
            let mut clients = list(&round["clients"]).iter();
            let of = clients.find(|of| of["node"] == from).unwrap();
            let (mut client, after) = around(of, kind, round["commit"] == true);
            let found = match asked.get(&from) {
                None => client.advertise().unwrap(),
                Some((asked, request)) => answer(&mut client, asked, request, of).unwrap(),
            };
            if kind == "share reply" {
                // fresh secrets: for the same receivers, and a server takes it in place of the vector's
                let receivers = |bytes: &[u8]| -> Vec<u64> {
                    let (_, reply) = ShareReply::from_bytes(bytes).unwrap();
                    reply.sealed.iter().map(|(to, _)| *to).collect()
                };
                assert_eq!(receivers(&found), receivers(&data));
                let mut other = server_before(round, kind, 0);
                take(&mut other, kind, from, &found).unwrap();
                // asked again, a client says the same
                let (_, request) = &asked[&from];
                let mut shared = ClientRun::from_bytes(&bytes(&of["states"]["shared"])).unwrap();
                assert_eq!(shared.share(request).unwrap(), data);
            } else {
                assert_eq!(found, data, "{name}: {kind} of {from}");
            }
            if let Some(after) = after {
                assert_eq!(
                    client.to_bytes()[..],
                    bytes(after),
                    "{name}: {kind} of {from}"
                );
            }
            take(&mut server, kind, from, &data).unwrap();
        }
        let sum = server.finish().unwrap();
        assert_eq!(sum.integers(), integers(&round["sum"]), "{name}");
        let lost = number(&round["lost"]);
        let there = nodes(round).into_iter().filter(|node| *node != lost);
        assert_eq!(sum.contributors, there.collect::<Vec<_>>());
        let plain = list(&round["clients"]).iter();
        let plain = plain.filter(|of| of["node"] != lost);
        let mut total = vec![0; sum.integers().len()];
        for of in plain {
            for (total, x) in total.iter_mut().zip(integers(&of["integers"])) {
                *total += x;
            }
        }
        assert_eq!(sum.integers(), total);
    }
}

/// A server of a round that waits for messages of this kind and has taken so many of them.
fn server_before(round: &Value, kind: &str, taken: u64) -> ServerRun {
    let mut server = server(round);
    let mut left = taken;
    for message in list(&round["messages"]) {
        let this = text(&message["kind"]);
        if this == kind {
            if left == 0 {
                break;
            }
            left -= 1;
        }
        let (from, to) = (number(&message["from"]), number(&message["to"]));
        if from == 0 {
            said(&mut server, round, this, to).unwrap();
        } else {
            take(&mut server, this, from, &bytes(&message["hex"])).unwrap();
        }
    }
    server
}

fn bad(to: &str) -> Vec<Value> {
    let mut vectors = list(&read("messages_bad")).clone();
    vectors.retain(|vector| vector["to"] == to);
    vectors
}

#[test]
fn bad_requests_are_refused_by_clients_with_the_named_error_and_change_nothing() {
    let vectors = bad("client");
    assert!(vectors.len() >= 70);
    for vector in vectors {
        let state = bytes(&vector["state"]);
        let mut client = ClientRun::from_bytes(&state).unwrap();
        let request = bytes(&vector["hex"]);
        let found = answer(&mut client, text(&vector["kind"]), &request, &vector);
        assert_refused(found, &vector);
        assert_eq!(client.to_bytes()[..], state, "{}", vector["name"]);
    }
}

#[test]
fn bad_replies_are_refused_by_servers_with_the_named_error() {
    let rounds = read("whole_round");
    let vectors = bad("server");
    assert!(vectors.len() >= 30);
    for vector in vectors {
        let round = &rounds[text(&vector["round"])];
        let kind = text(&vector["kind"]);
        let mut server = server_before(round, kind, number(&vector["taken"]));
        let data = bytes(&vector["hex"]);
        let found = take(&mut server, kind, number(&vector["node"]), &data);
        assert_refused(found, &vector);
    }
}
