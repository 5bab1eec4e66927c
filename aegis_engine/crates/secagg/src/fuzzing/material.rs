//! Six clients of one run, and what honest ones answer, remembered: cryptography is slow, and executions repeat.

use std::collections::HashMap;
use std::rc::Rc;

use crate::client::{ClientLimits, ClientRun, Sums};
use crate::error::SecAggError;
use crate::graph::Shape;
use crate::keys;
use crate::message::{Advert, ShareRequest};
use crate::plan::{Encoding, Plan};
use crate::server::Profile;

pub(super) type Bytes = Rc<[u8]>;

pub(super) const RUN: u64 = 77;
/// What the clients of the server's rounds work on.
pub(super) const BINDING: [u8; 32] = [6; 32];
/// By node, as in every list; ids of all sizes.
pub(super) const NODES: [u64; 6] = [3, 5, 8, 1_000_003, 1 << 40, u64::MAX];

/// Weights and values are bounded so tightly that a sum with a wrong mask left in it passes for one of honest clients with
/// a chance below 2^-60: nothing else would find a wrong share of a seed.
pub(super) fn plan() -> Plan {
    Plan {
        dim: 8,
        metrics: vec!["loss".to_owned(), "größe".to_owned()],
        encoding: Encoding {
            clip: 1.0,
            value_bits: 8,
            weight_max: 2,
            metric_max: 10,
        },
        n_max: 6,
    }
}

/// What each client lets be summed: the plan's own.
pub(super) fn sums() -> Sums {
    Sums {
        metrics: plan().metrics,
        metric_max: 10,
        weight_max: 2,
    }
}

/// What the client at a place contributes.
pub(super) fn contribution(place: usize) -> (Vec<f32>, u64, Vec<i64>) {
    let small = u8::try_from(place).expect("six places");
    let values = (0..8u8)
        .map(|i| f32::from(i * 7 + small * 13) / 64.0 - 0.7)
        .collect();
    let metric = i64::from(small) - 2;
    (values, u64::from(small % 2) + 1, vec![metric, -2 * metric])
}

/// The kinds of rounds there are.
pub(super) const PROFILES: [Profile; 3] = [
    Profile::Complete { commit: false },
    Profile::Complete { commit: true },
    // nobody colludes and nobody leaves: only so does a sparse graph of six exist
    Profile::Sparse {
        colluding: 0,
        lost: 0,
    },
];

pub(super) fn shape(profile: u8, n: u32) -> Shape {
    PROFILES[usize::from(profile) % PROFILES.len()].shape(n)
}

pub(super) fn identity(place: usize) -> [u8; 32] {
    [u8::try_from(place).expect("six places") + 1; 32]
}

/// A client before its first round; the same one in every process.
pub(super) fn fresh(place: usize) -> Bytes {
    let limits = ClientLimits {
        colluding_percent: 0,
        sums: Some(sums()),
        ..ClientLimits::default()
    };
    let client = ClientRun::with_identity(RUN, NODES[place], limits, &identity(place));
    let mut state = client.expect("randomness").to_bytes().to_vec();
    // the channel key follows header, number of answers and identity
    state[26 + 8 + 32..26 + 8 + 64].fill(0x40 + u8::try_from(place).expect("six places"));
    state.into()
}

pub(super) fn restored(state: &[u8]) -> ClientRun {
    ClientRun::from_bytes(state).expect("a client reads what it wrote")
}

/// Adverts of all six.
pub(super) fn adverts() -> Vec<Advert> {
    let advert = |place| {
        let bytes = restored(&fresh(place)).advertise().expect("keys");
        Advert::from_bytes(&bytes).expect("an advert").1
    };
    (0..NODES.len()).map(advert).collect()
}

/// A share request for those adverts whose bit is set.
pub(super) fn share_request(adverts: &[Advert], members: u8, profile: u8) -> ShareRequest {
    let here = |(place, _): &(usize, &Advert)| members >> place & 1 == 1;
    let cohort: Vec<_> = adverts.iter().enumerate().filter(here).collect();
    let cohort: Vec<_> = cohort
        .into_iter()
        .map(|(_, advert)| advert.clone())
        .collect();
    let n = u32::try_from(cohort.len()).expect("six places");
    ShareRequest {
        shape: shape(profile, n),
        plan: plan(),
        cohort,
    }
}

/// What an honest client is asked.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// Clients draw shares at random: a number tells one answer from another.
    Share(u8),
    Masked,
    Commit,
    Unmask,
}

/// Answers remembered at most: tables of them stay below the largest allocation.
pub(super) const MEMORY: usize = 3000;

/// What honest clients did: the state after it, and the answer; `None` where they refused.
#[derive(Default)]
pub(super) struct Memory(HashMap<[u8; 32], Option<(Bytes, Bytes)>>);

impl Memory {
    pub(super) fn ask(
        &mut self,
        place: usize,
        state: &Bytes,
        ask: Ask,
        request: &[u8],
    ) -> Option<(Bytes, Bytes)> {
        if self.0.len() > MEMORY {
            self.0.clear();
        }
        let tag = match ask {
            Ask::Share(version) => [0, version],
            Ask::Masked => [1, 0],
            Ask::Commit => [2, 0],
            Ask::Unmask => [3, 0],
        };
        let split = (state.len() as u64).to_le_bytes();
        let key = keys::hash(&tag, &[&split, state, request]);
        let answer = || {
            let mut client = restored(state);
            let reply = answer(&mut client, place, ask, request).ok()?;
            Some((client.to_bytes().as_slice().into(), reply.into()))
        };
        self.0.entry(key).or_insert_with(answer).clone()
    }
}

fn answer(
    client: &mut ClientRun,
    place: usize,
    ask: Ask,
    request: &[u8],
) -> Result<Vec<u8>, SecAggError> {
    match ask {
        Ask::Share(_) => client.share(request),
        Ask::Masked => {
            let (values, weight, metrics) = contribution(place);
            client.masked_input(request, &BINDING, &values, weight, &metrics)
        }
        Ask::Commit => client.commit(request),
        Ask::Unmask => client.unmask(request),
    }
}
