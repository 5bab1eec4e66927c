//! What is a client's own: its sums, its bounds on rounds; and what it says before it works.

use super::{BINDING, Cohort, RUN, limits, plan};
use crate::message::ShareRequest;
use crate::{ClientLimits, ClientRun, Plan, SecAggError, ServerRun, Sums};

type Change = Box<dyn Fn(&mut Plan)>;

fn sums() -> Sums {
    Sums {
        metrics: vec!["examples".into(), "correct".into()],
        metric_max: 1_000_000,
        weight_max: 50,
    }
}

/// A cohort whose clients have these constants, and its share request with another plan.
fn asked(change: impl Fn(&mut Plan)) -> (ClientRun, Vec<u8>) {
    let mut cohort = Cohort::new(3, plan(4, &["examples", "correct"]));
    let ids = cohort.ids();
    let mut client = cohort.clients.remove(&ids[0]).unwrap();
    client.limits.sums = Some(sums());
    let request = cohort.server.begin_round(1, &ids).unwrap();
    let (_, mut parsed) = ShareRequest::from_bytes(&request).unwrap();
    change(&mut parsed.plan);
    (client, parsed.to_bytes(RUN, 1))
}

#[test]
fn a_plan_with_the_clients_own_sums_is_taken_also_with_a_smaller_weight() {
    for weight_max in [1, 50] {
        let (mut client, request) = asked(|plan| plan.encoding.weight_max = weight_max);
        client.share(&request).unwrap();
    }
}

#[test]
fn a_plan_with_other_metrics_or_bounds_is_refused_at_the_share_step_and_changes_nothing() {
    let changes: [fn(&mut Plan); 8] = [
        |plan| plan.encoding.metric_max = 40,
        |plan| plan.encoding.metric_max = 0,
        |plan| plan.encoding.metric_max += 1,
        |plan| plan.encoding.weight_max = 51,
        |plan| plan.metrics.clear(),
        |plan| plan.metrics.reverse(),
        |plan| plan.metrics.push("rows".into()),
        |plan| plan.metrics[0].push('s'),
    ];
    for change in changes {
        let (mut client, request) = asked(change);
        let before = client.to_bytes();
        let refused = client.share(&request).unwrap_err();
        assert_eq!(refused.code(), "AEG-S023", "{refused}");
        assert_eq!(*client.to_bytes(), *before);
        let mut revived = ClientRun::from_bytes(&before).unwrap();
        assert_eq!(revived.share(&request).unwrap_err(), refused);
    }
}

#[test]
fn every_field_of_a_plan_at_its_extremes_is_refused_before_anything_is_made_of_it() {
    let numbers = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 40];
    let clips = [
        0.0,
        -1.0,
        1e-300,
        1e300,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let mut cases: Vec<Change> = Vec::new();
    for value in numbers {
        cases.push(Box::new(move |plan| plan.encoding.metric_max = value));
        cases.push(Box::new(move |plan| {
            plan.encoding.weight_max = value.max(51);
        }));
        cases.push(Box::new(move |plan| plan.dim = value));
        let small = u32::try_from(value.min(u64::from(u32::MAX))).unwrap();
        cases.push(Box::new(move |plan| plan.n_max = small));
    }
    for clip in clips {
        cases.push(Box::new(move |plan| plan.encoding.clip = clip));
    }
    for bits in [0, 1, 7, 31, 255] {
        cases.push(Box::new(move |plan| plan.encoding.value_bits = bits));
    }
    let mut taken = 0;
    for case in cases {
        let (mut client, request) = asked(&case);
        match client.share(&request) {
            // sizes are the client's business when it knows its own: 4 values here
            Ok(_) => {
                let plan = client.plan().unwrap();
                assert!(plan.dim != 4 || plan.n_max > 64);
                assert!(plan.dim == 4 || client.masked_len(4).is_err());
                taken += 1;
            }
            Err(error) => assert!(
                ["AEG-S002", "AEG-S003", "AEG-S012", "AEG-S023"].contains(&error.code()),
                "{error}"
            ),
        }
    }
    assert!(taken <= 3);
}

#[test]
fn values_beyond_the_bounds_are_masked_as_the_bounds_and_nothing_is_refused() {
    let plan = plan(2, &["examples", "correct"]);
    let mut cohort = Cohort::new(3, plan.clone());
    cohort.share(1, &[]).unwrap();
    let extremes = [i64::MIN, i64::MAX, 7];
    let ids = cohort.ids();
    let place = |id: u64| ids.iter().position(|known| *known == id).unwrap();
    cohort
        .mask(&[], |id| {
            let metric = extremes[place(id)];
            (vec![0.0; 2], u64::MAX, vec![metric, -7])
        })
        .unwrap();
    let sum = cohort.unmask(&[]).unwrap();
    assert_eq!(sum.weight, 3 * plan.encoding.weight_max);
    assert_eq!(sum.metrics["examples"], 7);
    assert_eq!(sum.metrics["correct"], -21);
}

#[test]
fn a_round_number_cannot_use_up_the_rounds_that_follow() {
    for round in [u64::MAX, 1 << 31 | 1, (1 << 20) + 1, 1 << 63] {
        let mut cohort = Cohort::new(3, plan(4, &[]));
        let ids = cohort.ids();
        let refused = cohort.server.begin_round(round, &ids).unwrap_err();
        assert_eq!(refused, SecAggError::RoundOutOfRange { round });
        // and from a server that does not ask itself
        let request = cohort.server.begin_round(1, &ids).unwrap();
        let (_, parsed) = ShareRequest::from_bytes(&request).unwrap();
        let client = cohort.clients.get_mut(&ids[0]).unwrap();
        let refused = client.share(&parsed.to_bytes(RUN, round)).unwrap_err();
        assert_eq!(refused.code(), "AEG-S024");
        client.share(&parsed.to_bytes(RUN, 1 << 20)).unwrap();
    }
}

#[test]
fn a_dry_run_says_what_the_masked_step_says_and_changes_nothing() {
    let mut cohort = Cohort::new(4, plan(4, &[]));
    let ids = cohort.ids();
    let client = cohort.clients.get(&ids[0]).unwrap();
    assert!(matches!(
        client.check_masked(&[], 4),
        Err(SecAggError::Malformed { .. })
    ));
    cohort.share(1, &[]).unwrap();
    let requests = cohort.masked_requests();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let before = client.to_bytes();
    for (id, request) in &requests {
        let expected = *id == ids[0];
        assert_eq!(client.check_masked(request, 4).is_ok(), expected);
        assert!(client.check_masked(request, 5).is_err());
        for cut in [0, 10, request.len() - 1] {
            assert!(client.check_masked(&request[..cut], 4).is_err());
        }
        for at in 0..request.len() {
            let mut bad = request.clone();
            bad[at] ^= 1;
            let dry = client.check_masked(&bad, 4);
            assert_eq!(*client.to_bytes(), *before);
            let mut other = ClientRun::from_bytes(&before).unwrap();
            let wet = other.masked_input(&bad, &BINDING, &[0.1; 4], 1, &[]);
            assert_eq!(dry.err(), wet.err());
        }
    }
    client
        .masked_input(&requests[0].1, &BINDING, &[0.1; 4], 1, &[])
        .unwrap();
    assert_eq!(
        client.check_masked(&requests[0].1, 4).unwrap_err().code(),
        "AEG-S007"
    );
}

#[test]
fn every_answer_that_changes_a_state_counts_and_no_other_does() {
    let mut server = ServerRun::new(RUN, plan(4, &[]), 2).unwrap();
    server.bind(BINDING);
    let mut cohort = Cohort::of(
        3,
        server.with_profile(crate::Profile::Complete { commit: true }),
    );
    let ids = cohort.ids();
    let answers = |cohort: &Cohort| cohort.clients[&ids[0]].answers();
    assert_eq!(answers(&cohort), 0);
    cohort.share(1, &[]).unwrap();
    assert_eq!(answers(&cohort), 1);
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    assert!(client.share(&[]).is_err());
    assert_eq!(answers(&cohort), 1);
    cohort.mask(&[], |_| (vec![0.1; 4], 1, vec![])).unwrap();
    assert_eq!(answers(&cohort), 2);
    cohort.commit(&[]).unwrap();
    assert_eq!(answers(&cohort), 3);
    let request = cohort.server.commit_request().unwrap();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    client.commit(&request).unwrap(); // the same again
    assert_eq!(answers(&cohort), 3);
    cohort.plan_next(&ids);
    let mut fresh = Cohort {
        next: cohort.next.take(),
        ..cohort
    };
    let (next, request) = fresh.next.take().unwrap();
    let ask = fresh.server.unmask_request(ids[0], Some(&request)).unwrap();
    let client = fresh.clients.get_mut(&ids[0]).unwrap();
    client.unmask(&ask).unwrap();
    assert_eq!(
        client.answers(),
        5,
        "the answer, and the shares that ride in it"
    );
    assert_eq!(
        ClientRun::from_bytes(&client.to_bytes()).unwrap().answers(),
        5
    );
    drop(next);
}

#[test]
fn a_state_keeps_its_constants() {
    let limits = ClientLimits {
        sums: Some(sums()),
        ..limits(2)
    };
    let client = ClientRun::new(RUN, 1, limits.clone()).unwrap();
    let revived = ClientRun::from_bytes(&client.to_bytes()).unwrap();
    assert_eq!(revived.limits, limits);
}
