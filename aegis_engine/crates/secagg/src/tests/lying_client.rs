//! A client that lies, seen from the server: found where it can be, and what it costs.

use super::hostile_round::masked;
use super::{Cohort, RUN, plan};
use crate::message::UnmaskReply;
use crate::{SecAggError, field, shamir};

#[test]
fn false_shares_are_found_and_cost_the_round_not_the_sum() {
    let (mut cohort, ids) = masked();
    cohort.server.end_masked().unwrap();
    for id in &ids[..4] {
        let request = cohort.server.unmask_request(*id, None).unwrap();
        let bytes = cohort
            .clients
            .get_mut(id)
            .unwrap()
            .unmask(&request)
            .unwrap();
        let (_, mut reply) = UnmaskReply::from_bytes(&bytes).unwrap();
        if *id == ids[0] {
            // a share of another secret in place of the dropped client's
            reply.secrets[0].1 = reply.seeds[1].1.clone();
        }
        cohort
            .server
            .add_unmask(*id, &reply.to_bytes(RUN, 1, *id))
            .unwrap();
    }
    assert_eq!(
        cohort.server.finish().unwrap_err(),
        SecAggError::SharesDisagree { node: ids[4] }
    );
}

#[test]
fn a_share_of_a_seed_chosen_to_stay_in_range_makes_the_sum_impossible() {
    let (mut cohort, ids) = masked();
    cohort.server.end_masked().unwrap();
    for id in &ids[..4] {
        let request = cohort.server.unmask_request(*id, None).unwrap();
        let client = cohort.clients.get_mut(id).unwrap();
        let bytes = client.unmask(&request).unwrap();
        let (_, mut reply) = UnmaskReply::from_bytes(&bytes).unwrap();
        if *id == ids[0] {
            // with the Lagrange weights of the four who answer, the lowest limb of the seed comes out one higher
            let error = field::invert(shamir::weights(&[1, 2, 3, 4])[0]);
            let mut share = *reply.seeds[1].1.to_bytes();
            let limb = u64::from_le_bytes(share[..8].try_into().unwrap());
            share[..8].copy_from_slice(&field::add(limb, error).to_le_bytes());
            reply.seeds[1].1 = shamir::Share::from_bytes(&share).unwrap();
        }
        let bytes = reply.to_bytes(RUN, 1, *id);
        cohort.server.add_unmask(*id, &bytes).unwrap();
    }
    // a mask is left on 5 elements of 32 bits: by chance the weight alone is possible once in 2^24 tries
    assert!(matches!(
        cohort.server.finish(),
        Err(SecAggError::ImplausibleSum { .. })
    ));
}

#[test]
fn a_garbled_masked_input_shows_in_the_sum_and_is_not_released() {
    let mut cohort = Cohort::new(4, plan(4, &[]));
    cohort.share(1, &[]).unwrap();
    for (id, request) in cohort.masked_requests() {
        let client = cohort.clients.get_mut(&id).unwrap();
        let mut bytes = client.masked_input(&request, &[0.1; 4], 1, &[]).unwrap();
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
