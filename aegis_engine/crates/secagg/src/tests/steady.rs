//! The steady state: the shares of a round come with the unmask replies of the one before.

use super::protocol::{contribution, plain_sum};
use super::{Cohort, plan};
use crate::{Next, Plan, Profile, SecAggError, ServerRun};

fn cohort(n: u64, plan: &Plan, commit: bool) -> Cohort {
    let server = ServerRun::new(super::RUN, plan.clone(), 2).unwrap();
    Cohort::of(n, server.with_profile(Profile::Complete { commit }))
}

/// Shares for those who missed them, then the round that was planned; gives its sum.
fn second_round(cohort: &mut Cohort, next: &Next) -> Vec<i64> {
    for id in &next.missing {
        let reply = cohort
            .clients
            .get_mut(id)
            .unwrap()
            .share(&next.request)
            .unwrap();
        cohort.server.add_share(*id, &reply).unwrap();
    }
    let plan = cohort.server.plan().clone();
    cohort.mask(&[], |id| contribution(2, id, &plan)).unwrap();
    cohort.unmask(&[]).unwrap().integers
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
    cohort.server.plan_next(&ids).unwrap();
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
            cohort.server.plan_next(&ids).unwrap();
            let sum = cohort.unmask(&[]).unwrap();
            assert_eq!(sum.integers, plain_sum(round, &ids, &plan));
            let next = cohort.server.begin_next().unwrap();
            assert_eq!((next.round, &next.missing[..]), (round + 1, &[][..]));
        }
    }
}

#[test]
fn one_that_missed_the_unmask_step_joins_by_a_share_step_of_its_own() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(5, &plan, 1);
    let sum = cohort.unmask(&[]).unwrap();
    assert_eq!(sum.contributors, ids[..4]);
    let next = cohort.server.begin_next().unwrap();
    assert_eq!(next.missing, ids[4..]);
    assert_eq!(second_round(&mut cohort, &next), plain_sum(2, &ids, &plan));
}

#[test]
fn a_round_that_fails_leaves_the_next_one_whole() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(4, &plan, 0);
    let failed = cohort.unmask(&ids[..2]).unwrap_err();
    assert_eq!(failed, SecAggError::NotEnoughClients { have: 2, need: 3 });
    let next = cohort.server.begin_next().unwrap();
    assert_eq!(next.missing, ids[..2]);
    assert_eq!(second_round(&mut cohort, &next), plain_sum(2, &ids, &plan));
    assert_eq!(cohort.server.begin_next(), None);
}

#[test]
fn a_next_round_the_client_refuses_does_not_cost_the_one_that_ends() {
    let plan = plan(20, &[]);
    let mut cohort = cohort(4, &plan, false);
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    cohort.mask(&[], |id| contribution(1, id, &plan)).unwrap();
    // the server draws up a round of two, below what the first client takes part in
    cohort.server.plan_next(&ids[..2]).unwrap();
    cohort.clients.get_mut(&ids[0]).unwrap().limits.min_cohort = 3;
    assert_eq!(
        cohort.unmask(&[]).unwrap().integers,
        plain_sum(1, &ids, &plan)
    );
    assert_eq!(cohort.server.begin_next().unwrap().missing, ids[..1]);
}

#[test]
fn the_round_that_is_over_cannot_be_asked_about_again() {
    let plan = plan(20, &[]);
    let (mut cohort, ids) = planned(4, &plan, 0);
    cohort.server.end_masked().unwrap();
    let request = cohort.server.unmask_request(ids[0]).unwrap();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    client.unmask(&request).unwrap();
    assert_eq!(client.round(), 2);
    assert!(matches!(
        client.unmask(&request),
        Err(SecAggError::WrongStep { .. })
    ));
}
