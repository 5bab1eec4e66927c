//! A server that sends one client another model than the rest (Pasquini, Francati, Ateniese, CCS 2022): everything else is
//! honest, nobody drops, and it keeps every message.

use std::collections::BTreeMap;

use super::chi_square::{critical, uniform};
use super::coalition::Coalition;
use super::{BINDING, Cohort, RUN, plan};
use crate::message::Sets;
use crate::{Profile, SecAggError, ServerRun, encode};

const OTHER: [u8; 32] = [8; 32];
const N: usize = 7;
/// The last two work with the server: fewer than a third.
const C: usize = 2;
const VICTIM: usize = 1;
const ALL: [usize; N] = [0, 1, 2, 3, 4, 5, 6];

fn update(place: usize, dim: usize) -> Vec<f32> {
    // the others' contribution is a constant that the server knows; the victim's is what it is after
    let value = if place == VICTIM { 0.25 } else { 0.0 };
    vec![value; dim]
}

/// What the coalition has when all have masked and, where they do, unmasked: each honest client's vector with all masks off
/// that it can compute.
struct Read {
    round: Coalition,
    stripped: Vec<Vec<i64>>,
    left: Vec<usize>,
    refused: usize,
}

fn attack(other: &[usize], dim: usize, commit: bool) -> Read {
    let mut round = Coalition::begin(N as u64, C, &plan(dim as u64, &[]), commit);
    for place in other {
        round.bindings[*place] = OTHER;
    }
    let vectors: Vec<_> = (0..N - C)
        .map(|place| round.mask(place, &ALL, &update(place, dim)).unwrap())
        .collect();
    let sets = round.sets(&ALL, &[]);
    let mut refused = 0;
    let mut signed = BTreeMap::new();
    if commit {
        for place in 0..N - C {
            signed.insert(round.ids[place], round.commit(place, &sets).unwrap());
        }
    }
    for place in 0..N - C {
        let binding = round.bindings[place];
        let mut commits = signed.clone();
        if commit {
            commits.extend(round.colluders_sign_of(&binding, &sets));
        }
        refused += usize::from(round.unmask(place, &sets, &commits).is_err());
    }
    let found: Vec<_> = (0..N - C)
        .map(|place| round.strip(place, &ALL, &vectors[place]))
        .collect();
    Read {
        left: found.iter().map(|one| one.left).collect(),
        stripped: found.into_iter().map(|one| one.lanes).collect(),
        round,
        refused,
    }
}

impl Read {
    /// The sum over some of the honest, mod the ring, as signed integers.
    fn sum(&self, of: &[usize]) -> Vec<i64> {
        let bits = self.round.plan.width().unwrap().bits();
        let mut sum = vec![0i64; self.stripped[0].len()];
        for place in of {
            for (total, x) in sum.iter_mut().zip(&self.stripped[*place]) {
                *total = total.wrapping_add(*x);
            }
        }
        sum.iter()
            .map(|x| x << (64 - bits) >> (64 - bits))
            .collect()
    }

    fn plain(&self, of: &[usize]) -> Vec<i64> {
        let plan = &self.round.plan;
        let dim = usize::try_from(plan.dim).unwrap();
        let mut sum = vec![0; dim + 1];
        for place in of {
            let one = encode(&update(*place, dim), 1, &[], plan).unwrap();
            sum.iter_mut().zip(one).for_each(|(sum, x)| *sum += x);
        }
        sum
    }
}

/// Every set of honest clients but the empty one.
fn subsets() -> impl Iterator<Item = Vec<usize>> {
    (1..1usize << (N - C)).map(|bits| (0..N - C).filter(|at| bits >> at & 1 == 1).collect())
}

#[test]
fn with_one_model_for_all_the_sum_over_all_is_read_and_no_other() {
    let read = attack(&[], 4, false);
    for set in subsets() {
        assert_eq!(read.sum(&set) == read.plain(&set), set.len() == N - C);
    }
}

#[test]
fn with_another_model_for_one_client_no_sum_is_read_over_anybody() {
    // one victim, a pair, and the other way round: all but one
    for other in [&[VICTIM][..], &[VICTIM, 3], &[0, 2, 3, 4]] {
        let read = attack(other, 4, false);
        assert_eq!(read.refused, 0, "without a commit step nobody notices");
        assert!(read.left.iter().all(|left| *left > 0));
        for set in subsets() {
            assert_ne!(read.sum(&set), read.plain(&set), "{other:?} {set:?}");
        }
    }
}

#[test]
fn the_sum_with_a_client_that_was_sent_another_model_is_uniform_also_when_all_unmask() {
    const DIM: usize = 40_000;
    let honest: Vec<usize> = (0..N - C).collect();
    let read = attack(&[VICTIM], DIM, false);
    let width = read.round.plan.width().unwrap().bytes();
    let bytes = |sum: &[i64], place: usize| -> Vec<usize> {
        let mut counts = vec![0; 256];
        for x in &sum[..DIM] {
            counts[usize::from(x.to_le_bytes()[place])] += 1;
        }
        counts
    };
    for set in [&honest[..], &[VICTIM], &[0, 2, 3, 4]] {
        let sum = read.sum(set);
        for place in 0..width {
            let found = uniform(&bytes(&sum, place));
            assert!(found < critical(255), "{set:?}, byte {place}: {found}");
        }
    }
    // the same test sees what would be there without the binding: the victim's own value in every place
    let plain = attack(&[], DIM, false).sum(&honest);
    assert!(uniform(&bytes(&plain, 0)) > 100.0 * critical(255));
}

#[test]
fn with_a_commit_step_nobody_unmasks_a_set_with_signatures_of_another_model() {
    // the victim finds only colluders with it, the others find one signature that does not verify
    let read = attack(&[VICTIM], 4, true);
    assert_eq!(read.refused, N - C);
    let [seeds, secrets] = read.round.held(VICTIM);
    assert_eq!((seeds.len(), secrets.len()), (C, C));
}

/// The victim masks with another model; the others are told that it was lost, so that its mask secret comes out: their
/// sum is readable, over themselves alone, and the victim's vector keeps its self mask.
#[test]
fn calling_the_client_with_another_model_lost_reads_the_others_and_not_it() {
    for commit in [false, true] {
        let mut round = Coalition::begin(N as u64, C, &plan(4, &[]), commit);
        round.bindings[VICTIM] = OTHER;
        let vectors: Vec<_> = (0..N - C)
            .map(|place| round.mask(place, &ALL, &update(place, 4)).unwrap())
            .collect();
        let lost = round.sets(&ALL, &[VICTIM]);
        let others = [0, 2, 3, 4];
        let mut commits = round.colluders_sign(&lost);
        if commit {
            for place in others {
                commits.insert(round.ids[place], round.commit(place, &lost).unwrap());
            }
        } else {
            commits.clear();
        }
        for place in others {
            round.unmask(place, &lost, &commits).unwrap();
        }
        // asked for itself, it answers at most for a view in which it survived, with its own share of its seed
        let alive: Sets = round.sets(&ALL, &[]);
        let _ = round.unmask(VICTIM, &alive, &BTreeMap::new());
        assert_eq!(round.finds_secrets(VICTIM), [false, true]);
        let stripped = round.strip(VICTIM, &ALL, &vectors[VICTIM]);
        assert_eq!(stripped.left, 1, "its self mask");
        assert_ne!(
            stripped.lanes,
            encode(&update(VICTIM, 4), 1, &[], &round.plan).unwrap()
        );
    }
}

#[test]
fn an_honest_server_with_a_client_on_another_model_says_so_and_gives_no_sum() {
    for commit in [false, true] {
        let server = ServerRun::new(RUN, plan(30, &[]), 2).unwrap();
        let mut cohort = Cohort::of(5, server.with_profile(Profile::Complete { commit }));
        cohort.share(1, &[]).unwrap();
        let requests = cohort.masked_requests();
        for (place, (id, request)) in requests.into_iter().enumerate() {
            let binding = if place == 2 { OTHER } else { BINDING };
            let client = cohort.clients.get_mut(&id).unwrap();
            let reply = client
                .masked_input(&request, &binding, &[0.1; 30], 1, &[])
                .unwrap();
            cohort.server.add_masked(id, &reply).unwrap();
        }
        let found = cohort.unmask(&[]).unwrap_err();
        if commit {
            let node = cohort.ids()[2];
            assert_eq!(found, SecAggError::BadSignature { node });
            continue;
        }
        assert_eq!(found.code(), "AEG-S019");
        let text = found.to_string();
        assert!(
            text.contains("clients were sent different models"),
            "{text}"
        );
    }
}

#[test]
fn a_server_that_is_bound_to_another_model_than_its_clients_reads_nothing() {
    let mut cohort = Cohort::new(5, plan(30, &[]));
    cohort.server.bind(OTHER);
    cohort.share(1, &[]).unwrap();
    cohort
        .mask(&[], |_| (vec![0.1; 30], 1, Vec::new()))
        .unwrap();
    let found = cohort.unmask(&[]).unwrap_err();
    assert!(
        matches!(found, SecAggError::ImplausibleSum { .. }),
        "{found}"
    );
}
