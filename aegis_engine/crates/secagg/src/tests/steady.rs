//! The steady state: the shares of a round come with the unmask replies of the one before.

use super::protocol::{contribution, plain_sum};
use super::{BINDING, Cohort, plan};
use crate::{ClientRun, Plan, Profile, SecAggError, ServerRun};

fn cohort(n: u64, plan: &Plan, commit: bool) -> Cohort {
    let server = ServerRun::new(super::RUN, plan.clone(), 2).unwrap();
    Cohort::of(n, server.with_profile(Profile::Complete { commit }))
}

/// Shares for those who missed them, then the round that was planned; gives its sum.
fn second_round(cohort: &mut Cohort, missing: &[u64], request: &[u8]) -> Vec<i64> {
    for id in missing {
        let reply = cohort.clients.get_mut(id).unwrap().share(request).unwrap();
        cohort.server.add_share(*id, &reply).unwrap();
    }
    let plan = cohort.server.plan().clone();
    cohort.mask(&[], |id| contribution(2, id, &plan)).unwrap();
    cohort.unmask(&[]).unwrap().integers()
}

/// A cohort whose first round is masked but for `lost`, and whose second is planned.
fn planned(n: u64, plan: &Plan, lost: usize) -> (Cohort, Vec<u64>) {
    let mut cohort = cohort(n, plan, false);
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    let stay = ids.len() - lost;
    cohort
        .mask(&ids[stay..], |id| contribution(1, id, plan))
        .unwrap();
    cohort.plan_next(&ids);
    (cohort, ids)
}

#[test]
fn after_the_first_round_a_round_is_masked_input_and_unmask() {
    let plan = plan(20, &["loss"]);
    for commit in [false, true] {
        let mut cohort = cohort(5, &plan, commit);
        let ids = cohort.ids();
        cohort.share(1, &[]).unwrap();
        for round in 1..=4 {
            cohort
                .mask(&[], |id| contribution(round, id, &plan))
                .unwrap();
            cohort.plan_next(&ids);
            let sum = cohort.unmask(&[]).unwrap();
            assert_eq!(sum.integers(), plain_sum(round, &ids, &plan));
            assert!(cohort.begin_next().0.is_empty());
            assert_eq!(cohort.server.round(), round + 1);
        }
    }
}

#[test]
fn one_that_missed_the_unmask_step_joins_by_a_share_step_of_its_own() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(5, &plan, 1);
    let sum = cohort.unmask(&[]).unwrap();
    assert_eq!(sum.contributors, ids[..4]);
    let (missing, request) = cohort.begin_next();
    assert_eq!(missing, ids[4..]);
    assert_eq!(
        second_round(&mut cohort, &missing, &request),
        plain_sum(2, &ids, &plan)
    );
}

#[test]
fn a_lost_unmask_reply_costs_its_client_nothing_in_the_next_round() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(5, &plan, 0);
    let (mut next, request) = cohort.next.take().unwrap();
    cohort.server.end_masked().unwrap();
    for id in &ids {
        let ask = cohort.server.unmask_request(*id, Some(&request)).unwrap();
        let client = cohort.clients.get_mut(id).unwrap();
        let reply = client.unmask(&ask).unwrap();
        // the client stored its state and answered; the answer of the first one never arrived
        *client = ClientRun::from_bytes(&client.to_bytes()).unwrap();
        if *id != ids[0] {
            let share = cohort.server.add_unmask(*id, &reply).unwrap().unwrap();
            next.add_share(*id, &share).unwrap();
        }
    }
    let sum = cohort.server.finish().unwrap();
    assert_eq!(sum.integers(), plain_sum(1, &ids, &plan));
    assert_eq!(next.missing(), ids[..1]);
    cohort.server = next;
    assert_eq!(
        second_round(&mut cohort, &ids[..1], &request),
        plain_sum(2, &ids, &plan)
    );
}

#[test]
fn the_same_share_request_gets_the_same_answer_until_the_masked_input_and_another_gets_none() {
    let mut cohort = cohort(4, &plan(20, &[]), false);
    let ids = cohort.ids();
    let request = cohort.server.begin_round(1, &ids).unwrap();
    let other = {
        let mut other = ServerRun::new(super::RUN, plan(21, &[]), 2).unwrap();
        for client in cohort.clients.values() {
            let advert = client.advertise().unwrap();
            other.add_advert(client.node_id(), &advert).unwrap();
        }
        other.begin_round(1, &ids).unwrap()
    };
    let mut replies = Vec::new();
    for client in cohort.clients.values_mut() {
        let reply = client.share(&request).unwrap();
        let state = client.to_bytes();
        let refused = SecAggError::RoundOrder { round: 1, last: 1 };
        for _ in 0..2 {
            assert_eq!(client.share(&request).unwrap(), reply);
            assert_eq!(client.share(&other).unwrap_err(), refused);
        }
        assert_eq!(*client.to_bytes(), *state);
        replies.push(reply);
    }
    for (id, reply) in ids.iter().zip(&replies) {
        cohort.server.add_share(*id, reply).unwrap();
    }
    let plan = cohort.server.plan().clone();
    cohort.mask(&[], |id| contribution(1, id, &plan)).unwrap();
    for client in cohort.clients.values_mut() {
        assert_eq!(
            client.share(&request).unwrap_err(),
            SecAggError::RoundOrder { round: 1, last: 1 }
        );
    }
}

#[test]
fn a_round_that_fails_leaves_the_next_one_whole() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(4, &plan, 0);
    let failed = cohort.unmask(&ids[..2]).unwrap_err();
    assert_eq!(failed, SecAggError::NotEnoughClients { have: 2, need: 3 });
    let (missing, request) = cohort.begin_next();
    assert_eq!(missing, ids[..2]);
    assert_eq!(
        second_round(&mut cohort, &missing, &request),
        plain_sum(2, &ids, &plan)
    );
}

#[test]
fn a_next_round_the_client_refuses_does_not_cost_the_one_that_ends() {
    let plan = plan(20, &[]);
    let mut cohort = cohort(4, &plan, false);
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    cohort.mask(&[], |id| contribution(1, id, &plan)).unwrap();
    // the server draws up a round of two, below what the first client takes part in
    cohort.plan_next(&ids[..2]);
    cohort.clients.get_mut(&ids[0]).unwrap().limits.min_cohort = 3;
    assert_eq!(
        cohort.unmask(&[]).unwrap().integers(),
        plain_sum(1, &ids, &plan)
    );
    assert_eq!(cohort.begin_next().0, ids[..1]);
}

#[test]
fn the_round_that_is_over_cannot_be_asked_about_again() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(4, &plan, 0);
    cohort.server.end_masked().unwrap();
    let (_, next) = cohort.next.as_ref().unwrap();
    let request = cohort.server.unmask_request(ids[0], Some(next)).unwrap();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    client.unmask(&request).unwrap();
    assert_eq!(client.round(), 2);
    assert!(matches!(
        client.unmask(&request),
        Err(SecAggError::WrongStep { .. })
    ));
}

#[test]
fn groups_of_one_round_sum_apart_and_their_clients_meet_others_in_the_next() {
    let plan = plan(20, &["loss"]);
    let mut cohort = cohort(9, &plan, false);
    let ids = cohort.ids();
    // interleaved groups, then others: the riding shares of a client go to its next group
    let groups = |round: u64| -> Vec<Vec<u64>> {
        let turn = |i: &u64| (*i / 1_000_003 / (2 - round % 2)) % 2;
        [0, 1]
            .map(|g| ids.iter().copied().filter(|i| turn(i) == g).collect())
            .into()
    };
    let base = cohort.server.fork();
    let begin = |round: u64| -> Vec<(ServerRun, Vec<u8>)> {
        let one = |group: &Vec<u64>| {
            let mut server = base.fork();
            server.bind(BINDING);
            let request = server.begin_round(round, group).unwrap();
            (server, request)
        };
        groups(round).iter().map(one).collect()
    };
    let mut now = begin(1);
    for (server, request) in &mut now {
        for id in server.cohort() {
            let reply = cohort.clients.get_mut(&id).unwrap().share(request).unwrap();
            server.add_share(id, &reply).unwrap();
        }
    }
    for round in 1..=3 {
        let mut then = begin(round + 1);
        for ((mut server, _), group) in now.into_iter().zip(groups(round)) {
            for id in server.end_shares().unwrap() {
                let request = server.masked_request(id).unwrap();
                let (values, weight, metrics) = contribution(round, id, &plan);
                let client = cohort.clients.get_mut(&id).unwrap();
                let input = client
                    .masked_input(&request, &BINDING, &values, weight, &metrics)
                    .unwrap();
                server.add_masked(id, &input).unwrap();
            }
            for id in server.end_masked().unwrap() {
                let its = then
                    .iter_mut()
                    .find(|(next, _)| next.cohort().contains(&id));
                let (next, request) = its.unwrap();
                let ask = server.unmask_request(id, Some(request)).unwrap();
                let reply = cohort.clients.get_mut(&id).unwrap().unmask(&ask).unwrap();
                let share = server.add_unmask(id, &reply).unwrap().unwrap();
                next.add_share(id, &share).unwrap();
            }
            let sum = server.finish().unwrap();
            assert_eq!(sum.integers(), plain_sum(round, &group, &plan));
        }
        now = then;
    }
}

#[test]
fn shares_for_another_round_or_of_another_client_are_refused_where_they_ride() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(4, &plan, 0);
    cohort.server.end_masked().unwrap();
    let (mut next, request) = cohort.next.take().unwrap();
    let ask = cohort
        .server
        .unmask_request(ids[0], Some(&request))
        .unwrap();
    let reply = cohort
        .clients
        .get_mut(&ids[0])
        .unwrap()
        .unmask(&ask)
        .unwrap();
    let share = cohort.server.add_unmask(ids[0], &reply).unwrap().unwrap();
    assert!(next.add_share(ids[1], &share).is_err());
    let mut other = cohort.server.fork();
    other.begin_round(3, &ids).unwrap();
    assert!(other.add_share(ids[0], &share).is_err());
    next.add_share(ids[0], &share).unwrap();
    assert_eq!(next.missing(), ids[1..]);
}
