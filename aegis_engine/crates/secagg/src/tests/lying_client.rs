//! A client that lies, seen from the server: found where it can be, and what it costs.

use super::hostile_round::masked;
use super::protocol::{contribution, plain_sum};
use super::{BINDING, Cohort, RUN, plan};
use crate::message::{ShareReply, UnmaskReply};
use crate::shamir::{self, Share};
use crate::{SecAggError, Sum, field};

/// These clients answer, liars what `lie` makes of their answers; gives what the server makes of it.
fn unmasked(
    cohort: &mut Cohort,
    ids: &[u64],
    lie: impl Fn(usize, &mut UnmaskReply),
) -> Result<Sum, SecAggError> {
    cohort.server.end_masked().unwrap();
    for (place, id) in ids.iter().enumerate() {
        let request = cohort.server.unmask_request(*id, None).unwrap();
        let client = cohort.clients.get_mut(id).unwrap();
        let bytes = client.unmask(&request).unwrap();
        let (_, mut reply) = UnmaskReply::from_bytes(&bytes).unwrap();
        lie(place, &mut reply);
        let bytes = reply.to_bytes(RUN, 1, *id);
        cohort.server.add_unmask(*id, &bytes).unwrap();
    }
    cohort.server.finish()
}

/// The share with its lowest limb higher by this field element.
fn higher(share: &Share, error: u64) -> Share {
    let mut bytes = *share.to_bytes();
    let limb = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    bytes[..8].copy_from_slice(&field::add(limb, error).to_le_bytes());
    Share::from_bytes(&bytes).unwrap()
}

#[test]
fn false_shares_are_found_and_cost_the_round_not_the_sum() {
    let (mut cohort, ids) = masked();
    let sum = unmasked(&mut cohort, &ids[..4], |place, reply| {
        if place == 0 {
            // a share of another secret in place of the dropped client's
            reply.secrets[0].1 = reply.seeds[1].1.clone();
        }
    });
    assert_eq!(
        sum.unwrap_err(),
        SecAggError::SharesDisagree { node: ids[4] }
    );
}

#[test]
fn a_share_of_a_seed_chosen_to_stay_in_range_is_found_by_the_seeds_check() {
    let (mut cohort, ids) = masked();
    let sum = unmasked(&mut cohort, &ids[..4], |place, reply| {
        if place == 0 {
            // with the Lagrange weights of the four who answer, the lowest limb of the seed comes out one higher
            let error = field::invert(shamir::weights(&[1, 2, 3, 4])[0]);
            reply.seeds[1].1 = higher(&reply.seeds[1].1, error);
        }
    });
    assert_eq!(
        sum.unwrap_err(),
        SecAggError::SharesDisagree { node: ids[1] }
    );
}

/// Ten clients of which the last is lost after its shares; seven shares are needed, the first `answers` answer.
fn ten(
    answers: usize,
    lie: impl Fn(usize, &mut UnmaskReply),
) -> (Vec<u64>, Result<Sum, SecAggError>) {
    let plan = plan(4, &[]);
    let mut cohort = Cohort::new(10, plan.clone());
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    cohort
        .mask(&ids[9..], |id| contribution(1, id, &plan))
        .unwrap();
    let sum = unmasked(&mut cohort, &ids[..answers], lie);
    (ids, sum)
}

#[test]
fn a_client_that_lies_about_every_share_costs_nothing_while_one_answer_more_than_needed_is_there() {
    for answers in [8, 9] {
        for liar in 0..answers {
            let (ids, sum) = ten(answers, |place, reply| {
                if place == liar {
                    for (_, share) in reply.seeds.iter_mut().chain(&mut reply.secrets) {
                        *share = higher(share, 1);
                    }
                }
            });
            let sum = sum.unwrap();
            assert_eq!(sum.integers(), plain_sum(1, &ids[..9], &plan(4, &[])));
            // a liar among the first that are asked is named, with the secret it was found by
            let named = if liar < 7 { vec![ids[liar]] } else { vec![] };
            let found: Vec<u64> = sum.false_shares.iter().map(|one| one.holder).collect();
            assert_eq!(found, named);
        }
    }
}

#[test]
fn two_liars_that_one_turn_leaves_out_cost_nothing_and_two_others_end_the_round() {
    // nine answers of which seven are needed: turns leave out places 7 and 8, then 0 and 1, and so on
    for (liars, borne) in [(0..2, true), (6..8, true), (7..9, true), (3..5, false)] {
        let (ids, sum) = ten(9, |place, reply| {
            if liars.contains(&place) {
                for (_, share) in &mut reply.seeds {
                    *share = higher(share, 1);
                }
            }
        });
        match sum {
            Ok(sum) if borne => assert_eq!(sum.contributors, ids[..9]),
            Err(SecAggError::SharesDisagree { .. }) if !borne => {}
            other => panic!("{liars:?}: {other:?}"),
        }
    }
}

#[test]
fn a_client_whose_check_is_not_of_its_seed_is_named() {
    let mut cohort = Cohort::new(5, plan(4, &[]));
    let ids = cohort.ids();
    let request = cohort.server.begin_round(1, &ids).unwrap();
    for (id, client) in &mut cohort.clients {
        let bytes = client.share(&request).unwrap();
        let (_, mut reply) = ShareReply::from_bytes(&bytes).unwrap();
        if *id == ids[2] {
            reply.seed_check[0] ^= 1;
        }
        cohort
            .server
            .add_share(*id, &reply.to_bytes(RUN, 1))
            .unwrap();
    }
    cohort.mask(&[], |_| (vec![0.5; 4], 1, vec![])).unwrap();
    assert_eq!(
        cohort.unmask(&[]).unwrap_err(),
        SecAggError::SharesDisagree { node: ids[2] }
    );
}

#[test]
fn a_garbled_masked_input_shows_in_the_sum_and_is_not_released() {
    let mut cohort = Cohort::new(4, plan(4, &[]));
    cohort.share(1, &[]).unwrap();
    for (id, request) in cohort.masked_requests() {
        let client = cohort.clients.get_mut(&id).unwrap();
        let mut bytes = client
            .masked_input(&request, &BINDING, &[0.1; 4], 1, &[])
            .unwrap();
        if id == 5 {
            let last = bytes.len() - 1;
            bytes[last] ^= 0x40; // in the highest byte of the weight
        }
        cohort.server.add_masked(id, &bytes).unwrap();
    }
    let refused = cohort.unmask(&[]).unwrap_err();
    assert_eq!(
        refused,
        SecAggError::ImplausibleSum {
            reason: "the weight is out of range"
        }
    );
}

#[test]
fn a_client_that_answers_for_a_peer_as_alive_and_as_lost_is_refused_by_the_server() {
    let mut cohort = Cohort::new(5, plan(4, &[]));
    let ids = cohort.ids();
    cohort.share(1, &[]).unwrap();
    let update = |_| (vec![0.5; 4], 1, vec![]);
    cohort.mask(&ids[4..], update).unwrap();
    cohort.server.end_masked().unwrap();
    let request = cohort.server.unmask_request(ids[0], None).unwrap();
    let client = cohort.clients.get_mut(&ids[0]).unwrap();
    let bytes = client.unmask(&request).unwrap();
    let (_, mut reply) = UnmaskReply::from_bytes(&bytes).unwrap();
    let lost = reply.secrets[0].clone();
    reply.seeds.push(lost);
    let both = reply.to_bytes(RUN, 1, ids[0]);
    assert!(matches!(
        cohort.server.add_unmask(ids[0], &both),
        Err(SecAggError::InconsistentSets { .. })
    ));
    cohort.server.add_unmask(ids[0], &bytes).unwrap();
}
