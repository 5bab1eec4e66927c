//! Every decoder: what it accepts has one encoding, and it takes no more memory than the input can justify.

use super::bounded;
use super::material::{self, Ask, BINDING, Memory, NODES, RUN, plan};
use crate::client::{ClientLimits, ClientRun};
use crate::error::SecAggError;
use crate::identity::Identity;
use crate::message::{
    Advert, Commit, CommitRequest, MaskedInput, MaskedRequest, ShareReply, ShareRequest,
    UnmaskReply, UnmaskRequest,
};
use crate::roster;
use crate::roster::SignedRoster;
use crate::server::{Profile, ServerRun};

type Again = fn(&[u8]) -> Option<Vec<u8>>;

/// Decode, and encode again.
const CODECS: [Again; 12] = [
    |b| ok(Advert::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run)),
    |b| ok(ShareRequest::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run, h.round)),
    |b| ok(ShareReply::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run, h.round)),
    |b| ok(MaskedRequest::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run, h.round, h.node)),
    masked_input,
    |b| ok(UnmaskRequest::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run, h.round, h.node)),
    |b| ok(UnmaskReply::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run, h.round, h.node)),
    |b| ok(CommitRequest::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run, h.round)),
    |b| ok(Commit::from_bytes(b)).map(|(h, m)| m.to_bytes(h.run, h.round, h.node)),
    |b| ok(ClientRun::from_bytes(b)).map(|client| client.to_bytes().to_vec()),
    |b| roster::again(std::str::from_utf8(b).ok()?).map(String::into_bytes),
    |b| {
        let identity = Identity::from_text(std::str::from_utf8(b).ok()?)?;
        Some(identity.to_text().as_bytes().to_vec())
    },
];

/// A message, if it is one; else the error must name its reason without a word of debugging.
fn ok<T>(decoded: Result<T, SecAggError>) -> Option<T> {
    decoded
        .inspect_err(|error| {
            let known = matches!(
                error,
                SecAggError::Malformed { .. }
                    | SecAggError::InvalidPlan { .. }
                    | SecAggError::EncodingDoesNotFit { .. }
            );
            assert!(known, "{error}");
        })
        .ok()
}

fn masked_input(bytes: &[u8]) -> Option<Vec<u8>> {
    let (width, len) = (
        plan().width().expect("a plan"),
        plan().len().expect("a plan"),
    );
    let (header, input) = ok(MaskedInput::from_bytes(bytes, width, len))?;
    Some([&MaskedInput::prefix(&header, width, len)[..], input.packed].concat())
}

/// The first byte chooses the decoder.
pub fn codecs(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    let codec = CODECS[usize::from(*which) % CODECS.len()];
    if let Some(again) = bounded(bytes.len(), || codec(bytes)) {
        assert!(again == bytes, "codec {which}: two encodings of one value");
    }
}

/// One honest message of each kind and more of those with many parts, behind its number.
pub fn codec_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for profile in material::PROFILES {
        conversation(profile, &mut |which, bytes| {
            seeds.push([&[which], bytes].concat());
        });
    }
    let roster = SignedRoster {
        serial: 7,
        issued: 1_795_000_000,
        expires: u64::MAX,
        members: (1..4u64)
            .map(|n| (nearly(n), format!("krankenhaus-{n}-ü")))
            .collect(),
    };
    let roster = roster.sign(&material::identity(0)).expect("good names");
    seeds.push([&[10], roster.as_bytes()].concat());
    let limits = ClientLimits {
        roster: Some((1..4u64).map(nearly).collect()),
        sums: Some(material::sums()),
        ..ClientLimits::default()
    };
    let client = ClientRun::new(RUN, NODES[0], limits).expect("randomness");
    seeds.push([&[9], &client.to_bytes()[..]].concat());
    let identity = Identity::generate().expect("randomness");
    seeds.push([&[11], identity.to_text().as_bytes()].concat());
    seeds
}

/// Keys that differ in one byte, so that two are soon alike.
fn nearly(n: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[24..].copy_from_slice(&n.to_be_bytes());
    key
}

/// A whole round; `take` gets each message with the number of its codec.
fn conversation(profile: Profile, take: &mut dyn FnMut(u8, &[u8])) {
    let server = ServerRun::new(RUN, plan(), 2).expect("a plan");
    let mut server = server.with_profile(profile);
    server.bind(BINDING);
    let mut memory = Memory::default();
    let mut states: Vec<_> = (0..NODES.len()).map(material::fresh).collect();
    for advert in material::adverts() {
        take(0, &advert.to_bytes(RUN));
        let bytes = advert.to_bytes(RUN);
        server.add_advert(advert.node, &bytes).expect("honest");
    }
    let request = server.begin_round(4, &NODES).expect("six clients");
    take(1, &request);
    let mut step = |place: usize, ask, request: &[u8], which, take: &mut dyn FnMut(u8, &[u8])| {
        let answer = memory.ask(place, &states[place], ask, request);
        let (state, reply) = answer.expect("an honest request");
        states[place] = state;
        take(which, &reply);
        take(9, &states[place]);
        reply
    };
    for (place, node) in NODES.into_iter().enumerate() {
        let reply = step(place, Ask::Share(0), &request, 2, take);
        server.add_share(node, &reply).expect("honest");
    }
    server.end_shares().expect("six clients");
    for (place, node) in NODES.into_iter().enumerate().skip(1) {
        let request = server.masked_request(node).expect("it shared");
        take(3, &request);
        let reply = step(place, Ask::Masked, &request, 4, take);
        server.add_masked(node, &reply).expect("honest");
    }
    server.end_masked().expect("five clients");
    if let Ok(request) = server.commit_request() {
        take(7, &request);
        for (place, node) in NODES.into_iter().enumerate().skip(1) {
            let reply = step(place, Ask::Commit, &request, 8, take);
            server.add_commit(node, &reply).expect("honest");
        }
    }
    for (place, node) in NODES.into_iter().enumerate().skip(1) {
        let request = server.unmask_request(node, None).expect("it survived");
        take(5, &request);
        step(place, Ask::Unmask, &request, 6, take);
    }
}
