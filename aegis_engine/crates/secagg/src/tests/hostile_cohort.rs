//! A server that lies about the cohort, its keys, the plan or the round.

use super::{Cohort, RUN, limits, plan};
use crate::message::{Advert, ShareRequest};
use crate::{ClientLimits, ClientRun, SecAggError, ServerRun, Shape, threshold};

fn small(n: u64) -> Cohort {
    Cohort::new(n, plan(4, &[]))
}

/// The share request of round 1 for a cohort, changed by `change`, as the first client answers it.
fn first_answer(n: u64, change: impl FnOnce(&mut ShareRequest)) -> Result<Vec<u8>, SecAggError> {
    let mut cohort = small(n);
    let bytes = cohort.server.begin_round(1, &cohort.ids()).unwrap();
    let (header, mut request) = ShareRequest::from_bytes(&bytes).unwrap();
    change(&mut request);
    let first = cohort.ids()[0];
    cohort
        .clients
        .get_mut(&first)
        .unwrap()
        .share(&request.to_bytes(header.run, header.round))
}

#[test]
fn a_second_share_request_of_a_round_and_an_older_round_are_refused() {
    let mut cohort = small(4);
    cohort.share(5, &[]).unwrap();
    let client = cohort.clients.values_mut().next().unwrap();
    for round in [1, 5] {
        // a server that starts over with other clients gains nothing
        let request = small(4).server.begin_round(round, &[5, 1_000_008]).unwrap();
        assert_eq!(
            client.share(&request).unwrap_err(),
            SecAggError::RoundOrder { round, last: 5 }
        );
    }
    assert_eq!(
        cohort.server.begin_round(5, &[]).unwrap_err(),
        SecAggError::RoundOrder { round: 5, last: 5 }
    );
}

#[test]
fn a_cohort_or_threshold_below_the_clients_own_is_refused() {
    let mut cohort = small(4);
    let request = cohort.server.begin_round(1, &cohort.ids()).unwrap();
    let first = cohort.ids()[0];
    let client = cohort.clients.get_mut(&first).unwrap();
    client.limits.min_cohort = 5;
    assert_eq!(
        client.share(&request).unwrap_err(),
        SecAggError::CohortTooSmall { n: 4, minimum: 5 }
    );
    client.limits = ClientLimits {
        min_threshold: 4,
        ..limits(2)
    };
    let refused = client.share(&request).unwrap_err();
    assert_eq!(
        refused,
        SecAggError::ThresholdRefused {
            threshold: 3,
            minimum: 4,
            n: 4
        }
    );
    for wrong in [0, 2, 5] {
        let refused = first_answer(4, |request| request.shape.threshold = wrong).unwrap_err();
        assert_eq!(
            refused,
            SecAggError::ThresholdRefused {
                threshold: wrong,
                minimum: 3,
                n: 4
            }
        );
    }
    let alone = first_answer(4, |request| request.cohort.truncate(1)).unwrap_err();
    assert_eq!(alone, SecAggError::CohortTooSmall { n: 1, minimum: 2 });
}

#[test]
fn the_threshold_is_above_two_thirds() {
    for n in 2..=1000 {
        let t = threshold(n);
        assert!(3 * t > 2 * n && 3 * (t - 1) <= 2 * n && t <= n);
    }
}

#[test]
fn a_cohort_without_the_client_or_with_its_key_replaced_or_with_a_key_twice_is_refused() {
    let inconsistent =
        |found: Result<_, _>| matches!(found, Err(SecAggError::InconsistentCohort { .. }));
    assert!(inconsistent(first_answer(4, |request| {
        request.cohort.remove(0);
        request.shape = Shape::complete(3);
    })));
    assert!(inconsistent(first_answer(4, |request| request.cohort[0]
        .channel =
        [9; 32])));
    assert!(inconsistent(first_answer(4, |request| request.cohort[0]
        .identity =
        [9; 32])));
    assert!(inconsistent(first_answer(4, |request| request.cohort[1]
        .channel =
        request.cohort[2].channel)));
    assert!(inconsistent(first_answer(4, |request| request
        .plan
        .n_max = 3)));
}

#[test]
fn a_plan_whose_sum_could_wrap_is_refused_by_the_client_too() {
    let refused =
        first_answer(4, |request| request.plan.encoding.weight_max = u64::MAX).unwrap_err();
    assert!(matches!(refused, SecAggError::EncodingDoesNotFit { .. }));
}

#[test]
fn a_substituted_channel_key_is_refused_with_a_roster_and_without_a_resigned_advert() {
    // not signed anew: refused even without a roster
    let refused = first_answer(4, |request| request.cohort[1].channel = [9; 32]).unwrap_err();
    assert!(matches!(refused, SecAggError::BadSignature { .. }));

    // signed anew by an identity of the server's own: taken without a roster, refused with one
    for pinned in [false, true] {
        let mut cohort = small(4);
        let (roster, ids) = (cohort.roster(), cohort.ids());
        let puppet = ClientRun::new(RUN, ids[1], limits(2))
            .unwrap()
            .advertise()
            .unwrap();
        cohort.server.add_advert(ids[1], &puppet).unwrap();
        let request = cohort.server.begin_round(1, &ids).unwrap();
        let client = cohort.clients.get_mut(&ids[0]).unwrap();
        client.limits.roster = pinned.then_some(roster);
        let found = client.share(&request);
        if pinned {
            assert_eq!(
                found.unwrap_err(),
                SecAggError::UnknownNode { node: ids[1] }
            );
        } else {
            found.unwrap();
        }
    }
}

#[test]
fn a_node_outside_the_roster_is_refused_by_client_and_server() {
    let mut cohort = small(4);
    let (mut roster, ids) = (cohort.roster(), cohort.ids());
    roster.remove(&cohort.clients[&ids[3]].identity().unwrap());
    let request = cohort.server.begin_round(1, &ids).unwrap();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    client.limits.roster = Some(roster.clone());
    assert_eq!(
        client.share(&request).unwrap_err(),
        SecAggError::UnknownNode { node: ids[3] }
    );

    let mut server = ServerRun::new(RUN, plan(4, &[]), 2)
        .unwrap()
        .with_roster(roster);
    for id in &ids[..3] {
        server
            .add_advert(*id, &cohort.clients[id].advertise().unwrap())
            .unwrap();
    }
    let stranger = cohort.clients[&ids[3]].advertise().unwrap();
    let refused = server.add_advert(ids[3], &stranger).unwrap_err();
    assert_eq!(refused, SecAggError::UnknownNode { node: ids[3] });
    let imposter = ClientRun::new(RUN, ids[0], limits(2))
        .unwrap()
        .advertise()
        .unwrap();
    assert_eq!(
        server.add_advert(ids[0], &imposter).unwrap_err(),
        SecAggError::UnknownNode { node: ids[0] }
    );
    let (_, mut unsigned) =
        Advert::from_bytes(&cohort.clients[&ids[0]].advertise().unwrap()).unwrap();
    unsigned.signature = [0; 64];
    let refused = server
        .add_advert(ids[0], &unsigned.to_bytes(RUN))
        .unwrap_err();
    assert_eq!(refused, SecAggError::BadSignature { node: ids[0] });
}

#[test]
fn an_identity_has_one_seat_in_a_cohort() {
    let twins = |seed: &[u8; 32], ids: [u64; 2]| {
        ids.map(|id| ClientRun::with_identity(RUN, id, limits(2), seed).unwrap())
    };
    let mut cohort = small(3);
    let (one, other) = (7_000_001, 7_000_002);
    let [a, b] = twins(&[5; 32], [one, other]);
    let moved = cohort.server.add_advert(other, &b.advertise().unwrap());
    assert_eq!(moved, Ok(None));
    let moved = cohort.server.add_advert(one, &a.advertise().unwrap());
    assert_eq!(moved, Ok(Some(other)));
    // A server that does not care: the client does, with a roster and without.
    let bytes = cohort
        .server
        .begin_round(1, &[cohort.ids(), vec![one, other]].concat())
        .unwrap();
    let (header, mut request) = ShareRequest::from_bytes(&bytes).unwrap();
    let (_, second) = Advert::from_bytes(&b.advertise().unwrap()).unwrap();
    request.cohort.push(second);
    request.shape = Shape::complete(5);
    let mut roster = cohort.roster();
    roster.insert(a.identity().unwrap());
    let first = cohort.ids()[0];
    let client = cohort.clients.get_mut(&first).unwrap();
    for pinned in [None, Some(roster)] {
        client.limits.roster = pinned;
        let refused = client
            .share(&request.to_bytes(header.run, header.round))
            .unwrap_err();
        assert!(
            matches!(refused, SecAggError::InconsistentCohort { reason, .. } if reason.contains("identity")),
            "{refused}"
        );
    }
}

#[test]
fn a_cohort_with_another_policy_is_refused_by_who_asks_for_the_same() {
    let answer = |mine: [u8; 32], same_policy: bool| {
        let mut cohort = small(4);
        let ids = cohort.ids();
        let client = cohort.clients.get_mut(&ids[0]).unwrap();
        (client.limits.policy, client.limits.same_policy) = (mine, same_policy);
        cohort
            .server
            .add_advert(ids[0], &client.advertise().unwrap())
            .unwrap();
        let request = cohort.server.begin_round(1, &ids).unwrap();
        cohort.clients.get_mut(&ids[0]).unwrap().share(&request)
    };
    assert!(answer([0; 32], true).is_ok());
    assert!(answer([1; 32], false).is_ok());
    assert!(matches!(
        answer([1; 32], true),
        Err(SecAggError::PolicyMismatch { .. })
    ));
    // the server cannot pass another policy off as the same: it is signed
    let forged = first_answer(4, |request| request.cohort[1].policy = [7; 32]).unwrap_err();
    assert!(matches!(forged, SecAggError::BadSignature { .. }));
}

#[test]
fn who_wants_a_larger_cohort_is_left_out_and_too_few_others_are_told_why() {
    let mut cohort = small(5);
    let ids = cohort.ids();
    for (id, minimum) in [(ids[0], 6), (ids[1], 5)] {
        let client = cohort.clients.get_mut(&id).unwrap();
        client.limits.min_cohort = minimum;
        let advert = client.advertise().unwrap();
        cohort.server.add_advert(id, &advert).unwrap();
    }
    // without the first there are four, too few for the second
    cohort.server.begin_round(1, &ids).unwrap();
    assert_eq!(cohort.server.cohort(), ids[2..]);
    let refused = cohort.server.begin_round(2, &ids[..2]).unwrap_err();
    assert_eq!(refused, SecAggError::CohortTooSmall { n: 2, minimum: 5 });
}
