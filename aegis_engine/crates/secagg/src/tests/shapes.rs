//! Sparse graphs, the commit step, and what clients refuse of both.

use super::protocol::{contribution, plain_sum};
use super::{Cohort, RUN, limits, plan};
use crate::message::{Commit, CommitRequest, Sets, ShareRequest, UnmaskRequest};
use crate::{Plan, Profile, SecAggError, ServerRun, Shape};

const SPARSE: Profile = Profile::Sparse {
    colluding: 2,
    lost: 5,
};

fn sparse(n: u64, plan: &Plan) -> Cohort {
    let server = ServerRun::new(RUN, plan.clone(), 2)
        .unwrap()
        .with_profile(SPARSE);
    let mut cohort = Cohort::of(n, server);
    for client in cohort.clients.values_mut() {
        client.limits.colluding_percent = 2;
    }
    cohort
}

fn big(dim: u64, n_max: u32) -> Plan {
    Plan {
        n_max,
        ..plan(dim, &["loss"])
    }
}

/// Every `step`-th of the nodes, from `first`.
fn some(ids: &[u64], first: usize, step: usize) -> Vec<u64> {
    ids.iter().skip(first).step_by(step).copied().collect()
}

#[test]
fn a_sparse_graph_sums_exactly_with_clients_lost_at_every_step() {
    let plan = big(50, 300);
    let mut cohort = sparse(240, &plan);
    let shape = SPARSE.shape(240);
    assert!(shape.degree < 200 && shape.commit, "{shape:?}");
    let ids = cohort.ids();
    let lost: [Vec<u64>; 4] = std::array::from_fn(|step| some(&ids, step, 80));
    for round in 1..=2 {
        cohort.share(round, &lost[0]).unwrap();
        let gone = [&lost[0][..], &lost[1]].concat();
        cohort
            .mask(&gone, |id| contribution(round, id, &plan))
            .unwrap();
        cohort.commit(&lost[2]).unwrap();
        for id in cohort.server.end_masked().unwrap() {
            if lost[2].contains(&id) || lost[3].contains(&id) {
                continue;
            }
            let request = cohort.server.unmask_request(id, None).unwrap();
            let reply = cohort
                .clients
                .get_mut(&id)
                .unwrap()
                .unmask(&request)
                .unwrap();
            cohort.server.add_unmask(id, &reply).unwrap();
        }
        let sum = cohort.server.finish().unwrap();
        let inside: Vec<u64> = ids
            .iter()
            .copied()
            .filter(|id| !gone.contains(id))
            .collect();
        assert_eq!(sum.contributors, inside);
        assert_eq!(sum.integers(), plain_sum(round, &inside, &plan));
    }
}

#[test]
fn too_many_lost_around_clients_of_a_sparse_graph_end_the_round() {
    let plan = big(5, 300);
    let mut cohort = sparse(240, &plan);
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    let masked = cohort.mask(&ids[..100], |id| contribution(1, id, &plan));
    masked.unwrap();
    assert!(matches!(
        cohort.unmask(&[]),
        Err(SecAggError::NotEnoughClients { .. })
    ));
}

#[test]
fn a_shape_below_the_clients_own_bounds_is_refused() {
    let plan = big(5, 300);
    let refused = |change: fn(&mut Shape)| {
        let mut cohort = sparse(240, &plan);
        let ids = cohort.ids();
        let bytes = cohort.server.begin_round(1, &ids).unwrap();
        let (header, mut request) = ShareRequest::from_bytes(&bytes).unwrap();
        change(&mut request.shape);
        let client = cohort.clients.get_mut(&ids[7]).unwrap();
        client
            .share(&request.to_bytes(header.run, header.round))
            .map(|_| ())
    };
    assert_eq!(refused(|_| ()), Ok(()));
    let cases: [fn(&mut Shape); 8] = [
        |shape| shape.commit = false,
        |shape| shape.degree -= 1,
        |shape| shape.degree = 240,
        |shape| shape.degree = 0,
        |shape| shape.degree = u32::MAX,
        |shape| shape.threshold -= 1,
        |shape| shape.threshold = shape.degree + 2,
        |shape| (shape.degree, shape.threshold) = (20, 15),
    ];
    for (case, change) in cases.into_iter().enumerate() {
        let found = refused(change).unwrap_err();
        let shape = matches!(
            found,
            SecAggError::ShapeRefused { .. } | SecAggError::ThresholdRefused { .. }
        );
        assert!(shape, "case {case}: {found}");
    }
}

#[test]
fn a_client_that_assumes_more_colluders_refuses_a_round_without_a_commit_step() {
    let mut cohort = Cohort::new(10, plan(4, &[]));
    let ids = cohort.ids();
    let request = cohort.server.begin_round(1, &ids).unwrap();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    // three colluders of ten could bring the sum down to one honest input by split views: 2 are asked for
    client.limits.colluding_percent = 30;
    client.limits.min_honest = 2;
    assert!(matches!(
        client.share(&request),
        Err(SecAggError::ShapeRefused { .. })
    ));
    client.limits = limits(2);
    client.limits.require_commit = true;
    assert!(matches!(
        client.share(&request),
        Err(SecAggError::ShapeRefused { .. })
    ));
    client.limits.require_commit = false;
    client.share(&request).unwrap();
}

/// Five clients of a round with a commit step that have sent masked inputs, the last one excepted.
fn committing() -> (Cohort, Vec<u64>) {
    let server = ServerRun::new(RUN, plan(4, &[]), 2).unwrap();
    let mut cohort = Cohort::of(5, server.with_profile(Profile::Complete { commit: true }));
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    cohort
        .mask(&ids[4..], |_| (vec![0.5; 4], 2, vec![]))
        .unwrap();
    cohort.server.end_masked().unwrap();
    (cohort, ids)
}

#[test]
fn a_client_signs_one_set_a_round_and_unmasks_only_that() {
    let (mut cohort, ids) = committing();
    let honest = cohort.server.commit_request().unwrap();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let first = client.commit(&honest).unwrap();
    assert_eq!(client.commit(&honest).unwrap(), first);
    let everybody = Sets::new(5, |_| true, |_| true);
    let other = CommitRequest {
        sets: everybody.clone(),
    }
    .to_bytes(RUN, 1);
    let refused = client.commit(&other).unwrap_err();
    assert_eq!(
        refused,
        SecAggError::AlreadyAnswered {
            step: "commit",
            round: 1
        }
    );
    let unmask = UnmaskRequest {
        sets: everybody,
        commits: vec![],
        next: None,
    };
    let refused = client.unmask(&unmask.to_bytes(RUN, 1, ids[0])).unwrap_err();
    assert!(matches!(refused, SecAggError::InconsistentSets { .. }));
}

#[test]
fn survivors_that_too_few_neighbours_signed_are_not_unmasked() {
    let (mut cohort, ids) = committing();
    let request = cohort.server.commit_request().unwrap();
    let mut signed = Vec::new();
    for id in &ids[..4] {
        let bytes = cohort
            .clients
            .get_mut(id)
            .unwrap()
            .commit(&request)
            .unwrap();
        signed.push((*id, Commit::from_bytes(&bytes).unwrap().1.signature));
        assert!(cohort.server.unmask_request(ids[0], None).is_err());
        cohort.server.add_commit(*id, &bytes).unwrap();
    }
    let sets = Sets::new(5, |_| true, |i| i < 4);
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let mut ask = |commits: Vec<(u64, [u8; 64])>| {
        let request = UnmaskRequest {
            sets: sets.clone(),
            commits,
            next: None,
        };
        client.unmask(&request.to_bytes(RUN, 1, ids[0])).map(|_| ())
    };
    let few = SecAggError::NotEnoughClients { have: 3, need: 4 };
    assert_eq!(ask(signed[1..3].to_vec()), Err(few));
    let swapped = vec![signed[1], signed[2], (signed[3].0, signed[2].1)];
    assert_eq!(
        ask(swapped),
        Err(SecAggError::BadSignature { node: ids[3] })
    );
    let stranger = vec![signed[1], signed[2], (ids[4], signed[3].1)];
    assert!(matches!(
        ask(stranger),
        Err(SecAggError::InconsistentSets { .. })
    ));
    let own = signed[..3].to_vec();
    assert_eq!(ask(own), Err(SecAggError::UnknownNode { node: ids[0] }));
    assert_eq!(ask(signed[1..].to_vec()), Ok(()));
}
