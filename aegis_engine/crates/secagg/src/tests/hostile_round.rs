//! A server that lies within a round, seen from a client.

use super::{BINDING, Cohort, RUN, limits, plan};
use crate::message::{MaskedRequest, Sets, ShareReply, ShareRequest, UnmaskReply, UnmaskRequest};
use crate::{ClientRun, SecAggError};

fn update(_: u64) -> (Vec<f32>, u64, Vec<i64>) {
    (vec![0.5; 4], 2, vec![])
}

fn small(n: u64) -> Cohort {
    Cohort::new(n, plan(4, &[]))
}

#[test]
fn a_second_masked_input_in_a_round_is_refused() {
    let mut cohort = small(4);
    cohort.share(1, &[]).unwrap();
    let (id, request) = cohort.masked_requests().remove(0);
    let client = cohort.clients.get_mut(&id).unwrap();
    client
        .masked_input(&request, &BINDING, &[0.1; 4], 1, &[])
        .unwrap();
    let again = client
        .masked_input(&request, &BINDING, &[0.2; 4], 1, &[])
        .unwrap_err();
    assert_eq!(
        again,
        SecAggError::AlreadyAnswered {
            step: "masked input",
            round: 1
        }
    );
}

#[test]
fn a_plan_of_another_size_than_the_update_allocates_nothing() {
    let mut huge = plan(4, &[]);
    huge.dim = 1 << 40;
    let mut cohort = small(3);
    let ids = cohort.ids();
    let request = cohort.server.begin_round(1, &ids).unwrap();
    let (_, mut parsed) = ShareRequest::from_bytes(&request).unwrap();
    parsed.plan = huge;
    let request = parsed.to_bytes(RUN, 1);
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    client.share(&request).unwrap();
    // eight terabytes, were it not for the client's own size
    assert!(matches!(
        client.masked_len(4),
        Err(SecAggError::BadUpdate { .. })
    ));
    let refused = client
        .masked_input(&[], &BINDING, &[0.0; 4], 1, &[])
        .unwrap_err();
    assert!(matches!(refused, SecAggError::BadUpdate { .. }));
}

#[test]
fn a_bad_update_uses_up_nothing() {
    let mut cohort = small(4);
    cohort.share(1, &[]).unwrap();
    let (id, request) = cohort.masked_requests().remove(0);
    let client = cohort.clients.get_mut(&id).unwrap();
    let refused = client
        .masked_input(&request, &BINDING, &[f32::NAN; 4], 1, &[])
        .unwrap_err();
    assert!(matches!(refused, SecAggError::BadUpdate { .. }));
    client
        .masked_input(&request, &BINDING, &[0.1; 4], 1, &[])
        .unwrap();
}

/// The first client's masked request after an honest share step, changed by `change`.
fn masked_answer(change: impl FnOnce(&mut MaskedRequest, &[u64])) -> Result<Vec<u8>, SecAggError> {
    let mut cohort = small(5);
    cohort.share(1, &[]).unwrap();
    let (id, bytes) = cohort.masked_requests().remove(0);
    let (header, mut request) = MaskedRequest::from_bytes(&bytes).unwrap();
    change(&mut request, &cohort.ids());
    let bytes = request.to_bytes(header.run, header.round, header.node);
    cohort
        .clients
        .get_mut(&id)
        .unwrap()
        .masked_input(&bytes, &BINDING, &[0.1; 4], 1, &[])
}

#[test]
fn a_tampered_mask_step_is_refused_before_anything_is_masked() {
    masked_answer(|_, _| ()).unwrap();
    let refused = masked_answer(|request, _| request.keys[1].mask_key = [9; 32]).unwrap_err();
    assert!(matches!(refused, SecAggError::BadSignature { .. }));
    let refused = masked_answer(|request, _| request.keys[0].mask_key = [9; 32]).unwrap_err();
    assert!(matches!(refused, SecAggError::InconsistentCohort { .. }));
    let refused = masked_answer(|request, _| request.sealed[0].1[20] ^= 1).unwrap_err();
    assert!(matches!(refused, SecAggError::ShareRejected { .. }));
    let refused = masked_answer(|request, _| {
        let (one, two) = (request.sealed[0].1, request.sealed[1].1);
        (request.sealed[0].1, request.sealed[1].1) = (two, one);
    });
    assert!(matches!(
        refused.unwrap_err(),
        SecAggError::ShareRejected { .. }
    ));
    let refused = masked_answer(|request, _| request.sealed.truncate(3)).unwrap_err();
    assert!(matches!(refused, SecAggError::InconsistentCohort { .. }));
    let refused = masked_answer(|request, _| {
        request.keys.truncate(3);
        request.sealed.truncate(2);
    });
    assert_eq!(
        refused.unwrap_err(),
        SecAggError::NotEnoughClients { have: 3, need: 4 }
    );
    let refused = masked_answer(|request, _| request.keys[4].node += 1).unwrap_err();
    assert!(matches!(refused, SecAggError::UnknownNode { .. }));
}

#[test]
fn two_views_of_the_cohort_do_not_open_each_others_shares() {
    let mut cohort = small(5);
    let ids = cohort.ids();
    let bytes = cohort.server.begin_round(1, &ids).unwrap();
    let (header, mut request) = ShareRequest::from_bytes(&bytes).unwrap();
    request.plan.encoding.metric_max += 1; // the smallest difference between two views
    let other = request.to_bytes(header.run, header.round);
    let mut replies: Vec<ShareReply> = Vec::new();
    for (place, client) in cohort.clients.values_mut().enumerate() {
        let view = if place == 0 { &bytes } else { &other };
        replies.push(
            ShareReply::from_bytes(&client.share(view).unwrap())
                .unwrap()
                .1,
        );
    }
    let sealed = replies[1..]
        .iter()
        .map(|r| (r.key.node, r.sealed[0].1))
        .collect();
    let keys = replies.iter().map(|reply| reply.key.clone()).collect();
    let request = MaskedRequest { keys, sealed }.to_bytes(RUN, 1, ids[0]);
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let refused = client
        .masked_input(&request, &BINDING, &[0.1; 4], 1, &[])
        .unwrap_err();
    // the signatures name the other view's transcript; were they absent, the shares would not open
    assert_eq!(refused, SecAggError::BadSignature { node: ids[1] });
}

/// Five clients that have sent masked inputs, the last one excepted.
pub(super) fn masked() -> (Cohort, Vec<u64>) {
    let mut cohort = small(5);
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    cohort.mask(&ids[4..], update).unwrap();
    (cohort, ids)
}

/// An unmask request to the first of five clients; `survivors` and `shared` are places in the cohort.
fn request(node: u64, survivors: &[u32], shared: &[u32]) -> Vec<u8> {
    let sets = Sets::new(5, |i| shared.contains(&i), |i| survivors.contains(&i));
    UnmaskRequest {
        sets,
        commits: vec![],
        next: None,
    }
    .to_bytes(RUN, 1, node)
}

#[test]
fn unmask_sets_that_break_a_rule_are_refused() {
    let (mut cohort, ids) = masked();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let mut ask = |survivors: &[u32], shared: &[u32]| {
        client
            .unmask(&request(ids[0], survivors, shared))
            .unwrap_err()
    };
    let inconsistent = |found| matches!(found, SecAggError::InconsistentSets { .. });
    let all = &[0, 1, 2, 3, 4];
    assert!(
        inconsistent(ask(&all[1..], all)),
        "itself among the dropped"
    );
    assert!(
        inconsistent(ask(all, &all[..4])),
        "one survived who never shared"
    );
    assert!(inconsistent(ask(&all[..4], &all[..4])), "one named nowhere");
    assert_eq!(
        ask(&all[..3], all),
        SecAggError::NotEnoughClients { have: 3, need: 4 },
        "fewer survivors than the threshold"
    );
    let other = Sets::new(6, |_| true, |i| i < 5);
    let request = UnmaskRequest {
        sets: other,
        commits: vec![],
        next: None,
    };
    let found = client
        .unmask(&request.to_bytes(RUN, 1, ids[0]))
        .unwrap_err();
    assert!(inconsistent(found), "another cohort");
    let request = UnmaskRequest {
        sets: Sets::new(5, |_| true, |i| i < 4),
        commits: vec![(ids[1], [0; 64])],
        next: None,
    };
    let found = client
        .unmask(&request.to_bytes(RUN, 1, ids[0]))
        .unwrap_err();
    assert!(inconsistent(found), "signatures nobody asked for");
}

#[test]
fn other_sets_after_an_answer_are_refused_and_the_same_give_the_same() {
    let (mut cohort, ids) = masked();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let all = &[0, 1, 2, 3, 4];
    let asked = request(ids[0], &all[..4], all);
    let first = client.unmask(&asked).unwrap();
    // stickiness survives a restart
    let mut client = ClientRun::from_bytes(&client.to_bytes()).unwrap();
    assert_eq!(client.unmask(&asked).unwrap(), first);
    let refused = client.unmask(&request(ids[0], all, all)).unwrap_err();
    assert_eq!(
        refused,
        SecAggError::AlreadyAnswered {
            step: "unmask",
            round: 1
        }
    );
    assert_eq!(client.unmask(&asked).unwrap(), first);
}

#[test]
fn exactly_one_kind_of_share_of_each_peer_is_given() {
    let (mut cohort, ids) = masked();
    cohort.server.end_masked().unwrap();
    let request = cohort.server.unmask_request(ids[0], None).unwrap();
    let reply = cohort
        .clients
        .get_mut(&ids[0])
        .unwrap()
        .unmask(&request)
        .unwrap();
    let (_, reply) = UnmaskReply::from_bytes(&reply).unwrap();
    let nodes =
        |list: &[(u64, crate::shamir::Share)]| list.iter().map(|(n, _)| *n).collect::<Vec<_>>();
    assert_eq!(nodes(&reply.seeds), ids[..4]);
    assert_eq!(nodes(&reply.secrets), ids[4..]);
}

#[test]
fn steps_out_of_order_and_replays_from_other_rounds_or_runs_are_refused() {
    let (mut cohort, ids) = masked();
    cohort.server.end_masked().unwrap();
    let old_unmask = cohort.server.unmask_request(ids[0], None).unwrap();
    let old_reply = cohort
        .clients
        .get_mut(&ids[0])
        .unwrap()
        .unmask(&old_unmask)
        .unwrap();
    cohort.share(2, &[]).unwrap();
    let wrong =
        |found: SecAggError| assert!(matches!(found, SecAggError::WrongStep { .. }), "{found}");
    wrong(
        cohort
            .clients
            .get_mut(&ids[0])
            .unwrap()
            .unmask(&old_unmask)
            .unwrap_err(),
    );
    wrong(cohort.server.add_unmask(ids[0], &old_reply).unwrap_err());
    wrong(cohort.server.end_masked().unwrap_err());
    wrong(cohort.server.unmask_request(ids[0], None).unwrap_err());
    wrong(cohort.server.finish().unwrap_err());
    let requests = cohort.masked_requests();
    let client = cohort.clients.get_mut(&ids[1]).unwrap();
    wrong(
        client
            .masked_input(&requests[0].1, &BINDING, &[0.1; 4], 1, &[])
            .unwrap_err(),
    );
    let reply = client
        .masked_input(&requests[1].1, &BINDING, &[0.1; 4], 1, &[])
        .unwrap();
    wrong(cohort.server.add_masked(ids[0], &reply).unwrap_err());
    cohort.server.add_masked(ids[1], &reply).unwrap();
    let again = cohort.server.add_masked(ids[1], &reply).unwrap_err();
    assert_eq!(
        again,
        SecAggError::AlreadyAnswered {
            step: "masked input",
            round: 2
        }
    );

    let advert = ClientRun::new(RUN + 1, 1, limits(2))
        .unwrap()
        .advertise()
        .unwrap();
    let refused = cohort.server.add_advert(1, &advert).unwrap_err();
    assert_eq!(
        refused,
        SecAggError::WrongRun {
            expected: RUN,
            found: RUN + 1
        }
    );
}
