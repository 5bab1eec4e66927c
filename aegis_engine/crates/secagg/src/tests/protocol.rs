//! The sum is the plain integer sum bit for bit, whoever is lost, and too few clients end a round cleanly.

use super::{BINDING, Cohort, RUN, plan};
use crate::{ClientRun, Encoding, Plan, SecAggError, ServerRun, encode, threshold};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, proptest};

/// A repeatable contribution, from a small generator so that failures shrink to small cases.
pub(super) fn contribution(seed: u64, id: u64, plan: &Plan) -> (Vec<f32>, u64, Vec<i64>) {
    let mut state = seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    #[expect(clippy::cast_precision_loss, reason = "any float will do")]
    let values = (0..plan.dim)
        .map(|_| (next() as f32 / (1u32 << 30) as f32 - 1.0) * 1.2)
        .collect();
    let weight = next() % plan.encoding.weight_max + 1;
    let bound = plan.encoding.metric_max.cast_signed();
    let metrics = plan
        .metrics
        .iter()
        .map(|_| next().cast_signed() % (bound + 1) - bound / 2)
        .collect();
    (values, weight, metrics)
}

pub(super) fn plain_sum(seed: u64, ids: &[u64], plan: &Plan) -> Vec<i64> {
    let mut sum = vec![0i64; plan.len().unwrap()]; // a metric may have several digits
    for id in ids {
        let (values, weight, metrics) = contribution(seed, *id, plan);
        let integers = encode(&values, weight, &metrics, plan).unwrap();
        sum.iter_mut()
            .zip(integers)
            .for_each(|(total, x)| *total += x);
    }
    sum
}

fn plans() -> impl Strategy<Value = Plan> {
    let dims = proptest::prop_oneof![1u64..40, 4090u64..4100, 8190u64..8200];
    (
        dims,
        0usize..4,
        8u8..=30,
        1u64..1_000_000,
        0u64..1_000_000,
        0.01f64..10.0,
    )
        .prop_map(
            |(dim, metrics, value_bits, weight_max, metric_max, clip)| Plan {
                dim,
                metrics: (0..metrics).map(|i| format!("m{i}")).collect(),
                encoding: Encoding {
                    clip,
                    value_bits,
                    weight_max,
                    metric_max,
                },
                n_max: 12,
            },
        )
}

/// Takes the next of `alive` out of the round at `step` when the dice say so.
fn lose(alive: &mut Vec<u64>, dice: &[u8], step: usize) -> Vec<u64> {
    let mut lost = Vec::new();
    let mut place = 0;
    alive.retain(|id| {
        let gone = dice[(place * 3 + step) % dice.len()] < 40;
        place += 1;
        if gone {
            lost.push(*id);
        }
        !gone
    });
    lost
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_unmasked_sum_is_the_plain_integer_sum_whoever_is_lost(
        n in 2u64..=12,
        plan in plans(),
        seed in any::<u64>(),
        dice in proptest::collection::vec(any::<u8>(), 48),
    ) {
        let mut cohort = Cohort::new(n, plan.clone());
        let t = threshold(u32::try_from(n).unwrap());
        for round in 1..=2 {
            let mut alive = cohort.ids();
            let dice: Vec<u8> = dice.iter().map(|d| d.wrapping_mul(u8::try_from(round).unwrap())).collect();
            let too_few = |have: usize| SecAggError::NotEnoughClients {
                have: u32::try_from(have).unwrap(), need: t,
            };

            let lost = lose(&mut alive, &dice, 0);
            cohort.share(round, &lost).unwrap();
            let lost = lose(&mut alive.clone(), &dice, 1);
            let masked = cohort.mask(&lost, |id| contribution(seed, id, &plan));
            if alive.len() < t as usize {
                prop_assert_eq!(masked.unwrap_err(), too_few(alive.len()));
                continue;
            }
            masked.unwrap();
            alive.retain(|id| !lost.contains(id));

            let contributors = alive.clone();
            let lost = lose(&mut alive, &dice, 2);
            let sum = cohort.unmask(&lost);
            if contributors.len() < t as usize {
                prop_assert_eq!(sum.unwrap_err(), too_few(contributors.len()));
            } else if alive.len() < t as usize {
                prop_assert_eq!(sum.unwrap_err(), too_few(alive.len()));
            } else {
                let sum = sum.unwrap();
                prop_assert_eq!(sum.integers(), plain_sum(seed, &contributors, &plan));
                prop_assert_eq!(sum.contributors, contributors);
            }
        }
    }
}

#[test]
fn thirty_percent_lost_at_each_step_costs_no_round() {
    for n in [10u64, 50] {
        for step in 0..3 {
            let plan = plan(100, &["loss"]);
            let mut cohort = Cohort::new(n, plan.clone());
            let lost: Vec<u64> = cohort
                .ids()
                .into_iter()
                .step_by(3)
                .take(usize::try_from(n).unwrap() * 3 / 10)
                .collect();
            let at = |s: usize| if s == step { lost.clone() } else { Vec::new() };
            cohort.share(1, &at(0)).unwrap();
            cohort
                .mask(&at(1), |id| contribution(1, id, &plan))
                .unwrap();
            let sum = cohort.unmask(&at(2)).unwrap();
            let inside: Vec<u64> = cohort
                .ids()
                .into_iter()
                .filter(|id| step == 2 || !lost.contains(id))
                .collect();
            assert_eq!(
                sum.integers(),
                plain_sum(1, &inside, &plan),
                "n {n} step {step}"
            );
        }
    }
}

#[test]
fn the_mean_the_weight_and_the_metrics_come_back_in_their_units() {
    let plan = plan(3, &["loss", "correct"]);
    let mut cohort = Cohort::new(3, plan);
    cohort.share(1, &[]).unwrap();
    let heavy = cohort.ids()[2];
    cohort
        .mask(&[], |id| {
            if id == heavy {
                (vec![1.0, -1.0, 0.5], 2, vec![-7, 10])
            } else {
                (vec![0.0; 3], 1, vec![1, 1])
            }
        })
        .unwrap();
    let sum = cohort.unmask(&[]).unwrap();
    assert_eq!(sum.weight, 4);
    assert_eq!(sum.metrics["loss"], -5);
    assert_eq!(sum.metrics["correct"], 12);
    let mut mean = Vec::new();
    sum.mean(|value| mean.push(value));
    for (found, expected) in mean.iter().zip([0.5, -0.5, 0.25]) {
        assert!((found - expected).abs() < 2e-5, "{found} {expected}");
    }
}

#[test]
fn below_the_servers_minimum_the_round_ends_and_the_next_one_works() {
    let plan = plan(5, &[]);
    let mut cohort = Cohort::new(6, plan.clone());
    let clients = std::mem::take(&mut cohort.clients);
    let mut server = ServerRun::new(RUN, plan.clone(), 6).unwrap();
    server.bind(BINDING);
    for (id, client) in &clients {
        server
            .add_advert(*id, &client.advertise().unwrap())
            .unwrap();
    }
    let mut cohort = Cohort {
        server,
        clients,
        next: None,
    };
    let few = &cohort.ids()[..5];
    let refused = cohort.server.begin_round(1, few).unwrap_err();
    assert_eq!(refused, SecAggError::NotEnoughClients { have: 5, need: 6 });
    assert_eq!(refused.code(), "AEG-S015");

    let lost = vec![cohort.ids()[0]];
    cohort.share(1, &[]).unwrap();
    cohort.mask(&lost, |id| contribution(3, id, &plan)).unwrap();
    assert_eq!(
        cohort.unmask(&[]).unwrap_err(),
        SecAggError::NotEnoughClients { have: 5, need: 6 }
    );

    cohort.share(2, &[]).unwrap();
    cohort.mask(&[], |id| contribution(3, id, &plan)).unwrap();
    let sum = cohort.unmask(&[]).unwrap();
    assert_eq!(sum.integers(), plain_sum(3, &cohort.ids(), &plan));
}

#[test]
fn a_late_client_is_told_so_and_costs_nothing() {
    let plan = plan(5, &[]);
    let mut cohort = Cohort::new(5, plan.clone());
    let late = cohort.ids()[4];
    let request = cohort.server.begin_round(1, &cohort.ids()).unwrap();
    let mut replies: Vec<_> = cohort
        .clients
        .iter_mut()
        .map(|(id, c)| (*id, c.share(&request).unwrap()))
        .collect();
    let held = replies.pop().unwrap();
    for (id, reply) in replies {
        cohort.server.add_share(id, &reply).unwrap();
    }
    cohort.mask(&[], |id| contribution(9, id, &plan)).unwrap();
    assert!(matches!(
        cohort.server.add_share(held.0, &held.1),
        Err(SecAggError::WrongStep { .. })
    ));
    let sum = cohort.unmask(&[]).unwrap();
    assert!(!sum.contributors.contains(&late));
    assert_eq!(sum.integers(), plain_sum(9, &sum.contributors, &plan));
}

#[test]
fn wide_rings_carry_large_metrics_exactly() {
    let mut plan = plan(2, &["big"]);
    plan.encoding.metric_max = 1 << 56;
    assert_eq!(plan.width().unwrap().bits(), 32, "metrics do not widen it");
    plan.encoding.weight_max = 1 << 40;
    assert_eq!(plan.width().unwrap().bits(), 64);
    let mut cohort = Cohort::new(3, plan);
    cohort.share(1, &[]).unwrap();
    cohort
        .mask(&[], |_| (vec![0.25, -0.25], 50, vec![-(1 << 56)]))
        .unwrap();
    assert_eq!(cohort.unmask(&[]).unwrap().metrics["big"], -3 * (1 << 56));
}

#[test]
fn the_state_is_small_and_loses_its_own_secrets_with_the_masked_input() {
    let mut cohort = Cohort::new(20, plan(100_000, &[]));
    cohort.share(1, &[]).unwrap();
    cohort
        .mask(&[], |_| (vec![0.5; 100_000], 1, vec![]))
        .unwrap();
    let client: &ClientRun = cohort.clients.values().next().unwrap();
    let size = client.to_bytes().len();
    assert!(size < 20 * 200 + 1024, "{size} bytes");
    assert_eq!(
        format!("{client:?}"),
        "ClientRun { run: 77, node: 5, round: 1, .. }"
    );
}
