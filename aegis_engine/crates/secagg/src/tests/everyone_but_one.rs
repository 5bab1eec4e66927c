//! A server that would have the sum of one client: it drops everyone else, at each step, and says so or hides it.

use std::collections::BTreeMap;

use super::coalition::Coalition;
use super::{limits, plan};
use crate::{ClientRun, SecAggError};

const N: usize = 10;
/// Fewer than a third, as many as profile S is argued to bear for "never both kinds".
const C: usize = 3;
const T: u32 = 7;
const ALL: [usize; N] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const UPDATE: [f32; 4] = [0.5, -0.25, 0.125, -1.0];

fn begin() -> Coalition {
    Coalition::begin(N as u64, C, &plan(4, &[]), false)
}

#[test]
fn a_client_masks_with_no_fewer_than_the_threshold() {
    let mut round = begin();
    for few in [&[0][..], &[0, 9], &[0, 5, 6, 7, 8, 9]] {
        let have = u32::try_from(few.len()).unwrap();
        let refused = round.mask(0, few, &UPDATE).unwrap_err();
        assert_eq!(refused, SecAggError::NotEnoughClients { have, need: T });
    }
    round.mask(0, &[0, 4, 5, 6, 7, 8, 9], &UPDATE).unwrap();
}

#[test]
fn a_client_told_that_all_others_were_lost_gives_nothing() {
    for kept in 1..T as usize {
        let mut round = begin();
        round.mask(0, &ALL, &UPDATE).unwrap();
        let sets = round.sets(&ALL, &ALL[kept..]);
        let refused = round.unmask(0, &sets, &BTreeMap::new()).unwrap_err();
        let have = u32::try_from(kept).unwrap();
        assert_eq!(refused, SecAggError::NotEnoughClients { have, need: T });
        assert!(round.held(0).iter().all(|held| held.len() == C));
    }
}

/// The server takes one vector and withholds the others', but says that all survived: it gets everybody's seed shares, and
/// the vector keeps the pair masks with every honest client.
#[test]
fn a_client_whose_vector_alone_is_kept_stays_masked_by_all_honest_others() {
    let mut round = begin();
    let mut vector = Vec::new();
    for place in 0..N - C {
        let found = round.mask(place, &ALL, &UPDATE).unwrap();
        if place == 0 {
            vector = found;
        }
    }
    let sets = round.sets(&ALL, &[]);
    for place in 0..N - C {
        round.unmask(place, &sets, &BTreeMap::new()).unwrap();
    }
    let stripped = round.strip(0, &ALL, &vector);
    assert_eq!(stripped.left, N - C - 1);
    assert_eq!(stripped.plain(), None);
}

#[test]
fn a_cohort_of_one_and_the_servers_own_is_refused_with_a_roster() {
    let mut round = begin();
    let client = round.ids[0];
    let roster = round.cohort.roster();
    // enough puppets for any minimum: without a roster nothing tells them from clients
    for puppet in 0..4 {
        let node = 1 + puppet;
        let puppet = ClientRun::new(super::RUN, node, limits(2)).unwrap();
        let advert = puppet.advertise().unwrap();
        round.cohort.server.add_advert(node, &advert).unwrap();
    }
    let alone = round.cohort.server.begin_round(2, &[1, 2, 3, 4, client]);
    let request = alone.unwrap();
    let client = round.cohort.clients.get_mut(&client).unwrap();
    client.limits.min_cohort = 6;
    assert_eq!(
        client.share(&request).unwrap_err(),
        SecAggError::CohortTooSmall { n: 5, minimum: 6 }
    );
    client.limits.min_cohort = 2;
    client.limits.roster = Some(roster);
    assert!(matches!(
        client.share(&request),
        Err(SecAggError::UnknownNode { node: 1..=4 })
    ));
    assert_eq!(client.round(), 1);
    // the documented limit: the keys a server relays are believed without a roster
    client.limits.roster = None;
    client.share(&request).unwrap();
}
