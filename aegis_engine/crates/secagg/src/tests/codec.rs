//! Every message: one encoding, and nothing else is accepted.

use super::{BINDING, Cohort, RUN, plan};
use crate::message::{
    Advert, Commit, CommitRequest, MaskedInput, MaskedRequest, Sets, ShareReply, ShareRequest,
    UnmaskReply, UnmaskRequest,
};
use crate::{ClientRun, Profile, SecAggError, ServerRun};
use proptest::prelude::{any, prop_assert, proptest};

type Decode = fn(&[u8]) -> Result<Vec<u8>, SecAggError>;

/// One honest message of each kind with a function that decodes it and encodes it again.
fn messages() -> Vec<(&'static str, Vec<u8>, Decode)> {
    let server = ServerRun::new(RUN, plan(3, &["loss", "größe"]), 2).unwrap();
    let mut cohort = Cohort::of(3, server.with_profile(Profile::Complete { commit: true }));
    let first = cohort.ids()[0];
    let advert = cohort.clients[&first].advertise().unwrap();
    let share_request = cohort.server.begin_round(4, &cohort.ids()).unwrap();
    let mut share_reply = Vec::new();
    for (id, client) in &mut cohort.clients {
        share_reply = client.share(&share_request).unwrap();
        cohort.server.add_share(*id, &share_reply).unwrap();
    }
    let shared_state = cohort.clients[&first].to_bytes().to_vec();
    let requests = cohort.masked_requests();
    let mut masked = Vec::new();
    for (id, request) in &requests {
        let client = cohort.clients.get_mut(id).unwrap();
        masked = client
            .masked_input(request, &BINDING, &[0.1; 3], 1, &[1, 2])
            .unwrap();
        cohort.server.add_masked(*id, &masked).unwrap();
    }
    cohort.plan_next(&cohort.ids());
    cohort.server.end_masked().unwrap();
    let commit_request = cohort.server.commit_request().unwrap();
    let mut commit = Vec::new();
    for (id, client) in &mut cohort.clients {
        commit = client.commit(&commit_request).unwrap();
        cohort.server.add_commit(*id, &commit).unwrap();
    }
    let next = cohort.next.as_ref().map(|(_, request)| &request[..]);
    let unmask_request = cohort.server.unmask_request(first, next).unwrap();
    let client = cohort.clients.get_mut(&first).unwrap();
    let masked_state = client.to_bytes().to_vec();
    let unmask_reply = client.unmask(&unmask_request).unwrap();
    vec![
        ("advert", advert, |b| {
            Advert::from_bytes(b).map(|(h, m)| m.to_bytes(h.run))
        }),
        ("share request", share_request, |b| {
            ShareRequest::from_bytes(b).map(|(h, m)| m.to_bytes(h.run, h.round))
        }),
        ("share reply", share_reply, |b| {
            ShareReply::from_bytes(b).map(|(h, m)| m.to_bytes(h.run, h.round))
        }),
        ("masked request", requests[0].1.clone(), |b| {
            MaskedRequest::from_bytes(b).map(|(h, m)| m.to_bytes(h.run, h.round, h.node))
        }),
        ("masked input", masked, |b| {
            let width = plan(3, &[]).width()?;
            let (header, input) = MaskedInput::from_bytes(b, width, 6)?;
            Ok([&MaskedInput::prefix(&header, width, 6)[..], input.packed].concat())
        }),
        ("commit request", commit_request, |b| {
            CommitRequest::from_bytes(b).map(|(h, m)| m.to_bytes(h.run, h.round))
        }),
        ("commit", commit, |b| {
            Commit::from_bytes(b).map(|(h, m)| m.to_bytes(h.run, h.round, h.node))
        }),
        ("unmask request", unmask_request, |b| {
            UnmaskRequest::from_bytes(b).map(|(h, m)| m.to_bytes(h.run, h.round, h.node))
        }),
        ("unmask reply", unmask_reply, |b| {
            UnmaskReply::from_bytes(b).map(|(h, m)| m.to_bytes(h.run, h.round, h.node))
        }),
        ("client state", shared_state, |b| {
            ClientRun::from_bytes(b).map(|c| c.to_bytes().to_vec())
        }),
        ("client state", masked_state, |b| {
            ClientRun::from_bytes(b).map(|c| c.to_bytes().to_vec())
        }),
    ]
}

#[test]
fn every_message_has_one_encoding_and_no_prefix_or_extension_of_it_is_accepted() {
    for (name, bytes, decode) in messages() {
        assert_eq!(decode(&bytes).unwrap(), bytes, "{name}");
        for len in 0..bytes.len() {
            let refused = decode(&bytes[..len]).unwrap_err();
            assert!(
                matches!(refused, SecAggError::Malformed { .. }),
                "{name} cut to {len}: {refused}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            matches!(decode(&longer), Err(SecAggError::Malformed { .. })),
            "{name}"
        );
    }
}

#[test]
fn another_version_or_kind_is_refused() {
    for (name, bytes, decode) in messages() {
        for place in 0..2 {
            let mut bad = bytes.clone();
            bad[place] ^= 0x40;
            let refused = decode(&bad).unwrap_err();
            assert!(
                matches!(&refused, SecAggError::Malformed { message, .. } if *message == name),
                "{refused}"
            );
        }
    }
}

#[test]
fn a_changed_byte_decodes_to_itself_or_is_refused() {
    for (name, bytes, decode) in messages() {
        for place in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[place] ^= 1;
            if let Ok(again) = decode(&bad) {
                assert_eq!(again, bad, "{name}: byte {place} has two meanings");
            }
        }
    }
}

#[test]
fn an_announced_length_allocates_nothing_by_itself() {
    for (name, bytes, decode) in messages() {
        for place in 26..bytes.len().saturating_sub(4) {
            let mut bad = bytes.clone();
            bad[place..place + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            if let Ok(again) = decode(&bad) {
                assert_eq!(again, bad, "{name}");
            }
        }
    }
}

#[test]
fn lists_out_of_order_or_with_repeats_are_refused() {
    let sets = Sets::new(3, |_| true, |_| true);
    for nodes in [[2, 1], [1, 1]] {
        let request = UnmaskRequest {
            sets: sets.clone(),
            commits: nodes.map(|node| (node, [0; 64])).to_vec(),
            next: None,
        };
        assert!(matches!(
            UnmaskRequest::from_bytes(&request.to_bytes(RUN, 1, 1)),
            Err(SecAggError::Malformed { .. })
        ));
    }
}

proptest! {
    #[test]
    fn noise_is_refused_without_a_panic(mut noise in any::<Vec<u8>>(), kind in 1u8..10) {
        if noise.len() >= 2 {
            noise[0] = 1;
            noise[1] = kind;
        }
        prop_assert!(Advert::from_bytes(&noise).is_err());
        prop_assert!(ShareRequest::from_bytes(&noise).is_err());
        prop_assert!(ClientRun::from_bytes(&noise).is_err());
        let _ = (ShareReply::from_bytes(&noise), MaskedRequest::from_bytes(&noise));
        let _ = (UnmaskRequest::from_bytes(&noise).is_ok(), UnmaskReply::from_bytes(&noise).is_ok());
        let _ = (CommitRequest::from_bytes(&noise), Commit::from_bytes(&noise));
    }
}
