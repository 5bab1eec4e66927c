//! Damaged, replayed and misdirected messages against whole state machines: refused, and nothing has changed after.

use super::protocol::{contribution, plain_sum};
use super::{BINDING, Cohort, RUN, limits, plan};
use crate::message::{Advert, MaskedRequest, Sets, ShareRequest, UnmaskReply, UnmaskRequest};
use crate::{ClientRun, SecAggError};

type Step = fn(&mut ClientRun, &[u8]) -> Result<Vec<u8>, SecAggError>;

/// Every prefix of a message, and the message with bytes behind it, leave a client as it was.
fn refuses_all_but(client: &mut ClientRun, message: &[u8], step: Step) {
    let before = client.to_bytes();
    let longer = [message, &[0; 1000]].concat();
    let cuts = (0..message.len()).map(|len| &message[..len]);
    for bad in cuts.chain([&longer[..=message.len()], &longer]) {
        assert!(step(client, bad).is_err(), "{} bytes", bad.len());
        assert_eq!(client.to_bytes(), before, "{} bytes", bad.len());
    }
    // a length field that says more than there is
    for place in 26..message.len() - 4 {
        let mut bad = message.to_vec();
        bad[place..place + 4].copy_from_slice(&[255; 4]);
        if step(client, &bad).is_err() {
            assert_eq!(client.to_bytes(), before, "byte {place}");
        } else {
            *client = ClientRun::from_bytes(&before).unwrap();
        }
    }
}

#[test]
fn cut_and_oversized_messages_change_neither_side_and_the_round_goes_on() {
    let plan = plan(3, &["loss"]);
    let mut cohort = Cohort::new(4, plan.clone());
    let ids = cohort.ids();
    let share: Step = |client, bytes| client.share(bytes);
    let mask: Step = |client, bytes| client.masked_input(bytes, &BINDING, &[0.5; 3], 1, &[7]);
    let unmask: Step = |client, bytes| client.unmask(bytes);

    let request = cohort.server.begin_round(1, &ids).unwrap();
    for id in &ids {
        let client = cohort.clients.get_mut(id).unwrap();
        if *id == ids[0] {
            refuses_all_but(client, &request, share);
        }
        let reply = client.share(&request).unwrap();
        for len in 0..reply.len() {
            assert!(cohort.server.add_share(*id, &reply[..len]).is_err());
        }
        let longer = [&reply[..], &[0]].concat();
        assert!(cohort.server.add_share(*id, &longer).is_err());
        cohort.server.add_share(*id, &reply).unwrap();
    }
    for (id, request) in cohort.masked_requests() {
        let client = cohort.clients.get_mut(&id).unwrap();
        if id == ids[0] {
            refuses_all_but(client, &request, mask);
        }
        let (values, weight, metrics) = contribution(5, id, &plan);
        let reply = client.masked_input(&request, &BINDING, &values, weight, &metrics);
        let reply = reply.unwrap();
        for len in 0..reply.len() {
            assert!(cohort.server.add_masked(id, &reply[..len]).is_err());
        }
        let longer = [&reply[..], &[0; 3]].concat();
        assert!(cohort.server.add_masked(id, &longer).is_err());
        cohort.server.add_masked(id, &reply).unwrap();
    }
    for id in cohort.server.end_masked().unwrap() {
        let request = cohort.server.unmask_request(id, None).unwrap();
        let client = cohort.clients.get_mut(&id).unwrap();
        if id == ids[0] {
            refuses_all_but(client, &request, unmask);
        }
        let reply = client.unmask(&request).unwrap();
        for len in 0..reply.len() {
            assert!(cohort.server.add_unmask(id, &reply[..len]).is_err());
        }
        let longer = [&reply[..], &[0]].concat();
        assert!(cohort.server.add_unmask(id, &longer).is_err());
        cohort.server.add_unmask(id, &reply).unwrap();
    }
    let sum = cohort.server.finish().unwrap();
    assert_eq!(sum.integers(), plain_sum(5, &ids, &plan));
}

/// The masked requests of two rounds to the first of five clients, which has answered neither.
fn two_rounds() -> (Cohort, [MaskedRequest; 2]) {
    let mut cohort = Cohort::new(5, plan(4, &[]));
    let requests = [1, 2].map(|round| {
        cohort.share(round, &[]).unwrap();
        let (_, bytes) = cohort.masked_requests().remove(0);
        MaskedRequest::from_bytes(&bytes).unwrap().1
    });
    (cohort, requests)
}

#[test]
fn round_keys_and_shares_of_an_earlier_round_do_not_pass_in_a_later_one() {
    let (mut cohort, [old, new]) = two_rounds();
    let id = cohort.ids()[0];
    let client = cohort.clients.get_mut(&id).unwrap();
    let mut ask = |request: MaskedRequest, round| {
        let bytes = request.to_bytes(RUN, round, id);
        client
            .masked_input(&bytes, &BINDING, &[0.1; 4], 1, &[])
            .map(|_| ())
    };
    let wrong = ask(old.clone(), 1).unwrap_err();
    assert!(matches!(wrong, SecAggError::WrongStep { .. }), "{wrong}");
    let (own, mut keys) = (new.keys[0].clone(), old.keys.clone());
    let whole = ask(old.clone(), 2).unwrap_err();
    let whole_refused = matches!(whole, SecAggError::InconsistentCohort { .. });
    assert!(whole_refused, "its own key of round 1: {whole}");
    keys[0] = own;
    let sealed = old.sealed.clone();
    let theirs = ask(MaskedRequest { keys, sealed }, 2).unwrap_err();
    let node = old.keys[1].node;
    assert_eq!(theirs, SecAggError::BadSignature { node });
    let (keys, mut sealed) = (new.keys.clone(), new.sealed.clone());
    sealed[2] = old.sealed[2];
    let node = sealed[2].0;
    let one = ask(MaskedRequest { keys, sealed }, 2).unwrap_err();
    assert_eq!(one, SecAggError::ShareRejected { node });
    assert_eq!(ask(new, 2), Ok(()));
}

#[test]
fn shares_sealed_for_another_or_by_another_are_refused() {
    let mut cohort = Cohort::new(5, plan(4, &[]));
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    let requests: Vec<_> = cohort.masked_requests();
    let parse = |at: usize| MaskedRequest::from_bytes(&requests[at].1).unwrap().1;
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let mut ask = |request: MaskedRequest| {
        let bytes = request.to_bytes(RUN, 1, ids[0]);
        client
            .masked_input(&bytes, &BINDING, &[0.1; 4], 1, &[])
            .unwrap_err()
    };
    // what the third client sealed for the second, in place of what it sealed for the first
    let mut request = parse(0);
    let other = parse(1).sealed.into_iter().find(|(of, _)| *of == ids[2]);
    request.sealed[1] = other.unwrap();
    assert_eq!(ask(request), SecAggError::ShareRejected { node: ids[2] });
    // what the second sealed, under the third's name
    let mut request = parse(0);
    request.sealed[1].1 = request.sealed[0].1;
    assert_eq!(ask(request), SecAggError::ShareRejected { node: ids[2] });
    let held = client_masks(&mut cohort, ids[0], &parse(0));
    assert!(held.is_ok());
}

fn client_masks(cohort: &mut Cohort, id: u64, request: &MaskedRequest) -> Result<(), SecAggError> {
    let client = cohort.clients.get_mut(&id).unwrap();
    let bytes = request.to_bytes(RUN, 1, id);
    client
        .masked_input(&bytes, &BINDING, &[0.1; 4], 1, &[])
        .map(|_| ())
}

#[test]
fn an_advert_of_another_run_is_no_advert_of_this_one() {
    let mut cohort = Cohort::new(4, plan(4, &[]));
    let ids = cohort.ids();
    // the same identity, in its roster, in an earlier run: its old channel key is not taken
    let seed = [7; 32];
    let [old, new] =
        [RUN - 1, RUN].map(|run| ClientRun::with_identity(run, ids[1], limits(2), &seed).unwrap());
    let advert = new.advertise().unwrap();
    cohort.server.add_advert(ids[1], &advert).unwrap();
    let stale = Advert::from_bytes(&old.advertise().unwrap()).unwrap().1;
    let refused = cohort.server.add_advert(ids[1], &stale.to_bytes(RUN));
    assert_eq!(
        refused.unwrap_err(),
        SecAggError::BadSignature { node: ids[1] }
    );
    let bytes = cohort.server.begin_round(1, &ids).unwrap();
    let (header, mut request) = ShareRequest::from_bytes(&bytes).unwrap();
    request.cohort[1] = stale;
    let roster = request.cohort.iter().map(|advert| advert.identity);
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    client.limits.roster = Some(roster.collect());
    let forged = request.to_bytes(header.run, header.round);
    let refused = client.share(&forged).unwrap_err();
    assert_eq!(refused, SecAggError::BadSignature { node: ids[1] });
    client.share(&bytes).unwrap();
}

#[test]
fn a_client_is_alive_or_lost_in_a_request_never_both() {
    let masked = || {
        let mut cohort = Cohort::new(5, plan(4, &[]));
        cohort.share(1, &[]).unwrap();
        cohort.mask(&[], |_| (vec![0.5; 4], 1, vec![])).unwrap();
        cohort
    };
    let ask = |cohort: &mut Cohort, shared: u8, survivors: u8| {
        let id = cohort.ids()[0];
        let sets = Sets::new(5, |_| true, |_| true);
        let request = UnmaskRequest {
            sets,
            commits: vec![],
            next: None,
        };
        let mut bytes = request.to_bytes(RUN, 1, id);
        // header, n, then one byte a bitmap for five clients
        assert_eq!(bytes[26..32], [5, 0, 0, 0, 0b11111, 0b11111]);
        (bytes[30], bytes[31]) = (shared, survivors);
        let client = cohort.clients.get_mut(&id).unwrap();
        let reply = client.unmask(&bytes)?;
        let (_, reply) = UnmaskReply::from_bytes(&reply).unwrap();
        let count = |list: &[(u64, _)], of| list.iter().filter(|(node, _)| *node == of).count();
        let last = cohort.ids()[4];
        Ok([count(&reply.seeds, last), count(&reply.secrets, last)])
    };
    // the four things two bits can say of the last client: two of them are refused, two give one kind of share each
    let inconsistent =
        |found: Result<_, _>| matches!(found, Err(SecAggError::InconsistentSets { .. }));
    let (with, without) = (0b11111, 0b01111);
    assert_eq!(ask(&mut masked(), with, with), Ok([1, 0]));
    assert_eq!(ask(&mut masked(), with, without), Ok([0, 1]));
    assert!(inconsistent(ask(&mut masked(), without, with)));
    assert!(inconsistent(ask(&mut masked(), without, without)));
    // a bit for a client that does not exist
    for (shared, survivors) in [(0b11_1111, with), (with, 0b11_1111)] {
        let refused = ask(&mut masked(), shared, survivors).unwrap_err();
        assert!(matches!(refused, SecAggError::Malformed { .. }));
    }
    // alive in one request and lost in the next: the second is refused, in either order, also after a restart
    for order in [[with, without], [without, with]] {
        let mut cohort = masked();
        ask(&mut cohort, with, order[0]).unwrap();
        let client = cohort.clients.values_mut().next().unwrap();
        *client = ClientRun::from_bytes(&client.to_bytes()).unwrap();
        let refused = ask(&mut cohort, with, order[1]).unwrap_err();
        let (step, round) = ("unmask", 1);
        assert_eq!(refused, SecAggError::AlreadyAnswered { step, round });
    }
}
