//! A server that keeps everything, the clients that work with it, and what they can read together: the other side of
//! `split_views`, `everyone_but_one` and `view`.

use std::collections::BTreeMap;

use super::{BINDING, Cohort, RUN};
use crate::client::share::COHORT;
use crate::keys::{self, Exchange, Position, SEALED_LEN};
use crate::mask::{CHUNK, Mask, Scratch, apply};
use crate::message::{
    Commit, CommitRequest, MaskedInput, MaskedRequest, RoundKey, Sets, ShareReply, ShareRequest,
    UnmaskReply, UnmaskRequest,
};
use crate::ring::{add_packed, signed};
use crate::secret::Key32;
use crate::shamir::x_of;
use crate::shamir::{self, SHARE_LEN, Share};
use crate::wire::Header;
use crate::{ClientRun, Plan, Profile, SecAggError, ServerRun};

/// Shares by whose secret they are of, then by x-coordinate.
type Shares = BTreeMap<u64, BTreeMap<u64, Share>>;

/// What one that works with the server gives it: all its secrets.
struct Colluder {
    identity: Key32,
    channel: Key32,
    mask_secret: Key32,
}

/// One round whose share step is over, as a hostile server steps it. Clients are named by their place in the cohort; the
/// last `c` work with the server.
pub(super) struct Coalition {
    pub cohort: Cohort,
    pub ids: Vec<u64>,
    pub plan: Plan,
    pub threshold: u32,
    /// What each client, by place, is sent to work on.
    pub bindings: Vec<[u8; 32]>,
    place: Position,
    channels: Vec<[u8; 32]>,
    replies: BTreeMap<u64, ShareReply>,
    colluders: BTreeMap<u64, Colluder>,
    seeds: Shares,
    secrets: Shares,
    /// Seeds and mask secrets as they are, to tell whether the coalition found them.
    truth: Vec<(Key32, Key32)>,
}

/// A client's vector with every mask taken off that the coalition can compute.
#[derive(Clone)]
pub(super) struct Stripped {
    pub lanes: Vec<i64>,
    /// Masks that are still on it.
    pub left: usize,
}

impl Stripped {
    /// The client's plain integers, where no mask is left.
    pub(super) fn plain(self) -> Option<Vec<i64>> {
        (self.left == 0).then_some(self.lanes)
    }
}

impl Coalition {
    pub(super) fn begin(n: u64, c: usize, plan: &Plan, commit: bool) -> Self {
        let server = ServerRun::new(RUN, plan.clone(), 2).unwrap();
        let mut cohort = Cohort::of(n, server.with_profile(Profile::Complete { commit }));
        let ids = cohort.ids();
        let request = cohort.server.begin_round(1, &ids).unwrap();
        let (_, parsed) = ShareRequest::from_bytes(&request).unwrap();
        let mut replies = BTreeMap::new();
        for (id, client) in &mut cohort.clients {
            let reply = client.share(&request).unwrap();
            replies.insert(*id, ShareReply::from_bytes(&reply).unwrap().1);
        }
        // a state of the share step starts with its number of answers, identity and channel secret; mask secret and seed come before the sealed shares
        let states = cohort.clients.values().map(ClientRun::to_bytes);
        let states: Vec<_> = states.collect();
        let secret = |state: &[u8], at: usize| Key32::new(state[at..at + 32].try_into().unwrap());
        let end = |state: &[u8]| state.len() - 4 - (ids.len() - 1) * (8 + SEALED_LEN);
        let truth = states.iter().map(|state| {
            (
                secret(state, end(state) - 32),
                secret(state, end(state) - 64),
            )
        });
        let colluders = (ids.len() - c..ids.len()).map(|place| {
            let state = &states[place];
            let colluder = Colluder {
                identity: secret(state, 34),
                channel: secret(state, 66),
                mask_secret: secret(state, end(state) - 64),
            };
            (ids[place], colluder)
        });
        let mut coalition = Self {
            truth: truth.collect(),
            colluders: colluders.collect(),
            plan: plan.clone(),
            threshold: parsed.shape.threshold,
            bindings: vec![BINDING; ids.len()],
            place: Position {
                run: RUN,
                round: 1,
                transcript: keys::hash(COHORT, &[&request]),
            },
            channels: parsed.cohort.iter().map(|advert| advert.channel).collect(),
            replies,
            seeds: Shares::new(),
            secrets: Shares::new(),
            ids,
            cohort,
        };
        coalition.open_shares();
        coalition
    }

    /// Every share that was sealed for a colluder.
    fn open_shares(&mut self) {
        for (from, channel) in self.ids.iter().zip(&self.channels) {
            for (to, colluder) in self.colluders.iter().filter(|(to, _)| *to != from) {
                let root =
                    keys::channel_root(RUN, &exchange(&colluder.channel), *to, *from, channel)
                        .unwrap();
                let key = self.place.channel_key(&root, (*from, *to)).unwrap();
                let sealed = &self.replies[from].sealed;
                let at = sealed.binary_search_by_key(to, |(to, _)| *to).unwrap();
                let pair = self.place.open(&key, (*from, *to), &sealed[at].1).unwrap();
                let x = x_of(index(&self.ids, *to));
                let share = |half: &[u8]| Share::from_bytes(half.try_into().unwrap()).unwrap();
                let (seed, secret) = pair.split_at(SHARE_LEN);
                self.seeds.entry(*from).or_default().insert(x, share(seed));
                let secrets = self.secrets.entry(*from).or_default();
                secrets.insert(x, share(secret));
            }
        }
    }

    /// The mask step of one client, told that only those in `view` shared; its packed vector.
    pub(super) fn mask(
        &mut self,
        place: usize,
        view: &[usize],
        update: &[f32],
    ) -> Result<Vec<u8>, SecAggError> {
        let node = self.ids[place];
        let inside = |id: &u64| view.contains(&(index(&self.ids, *id) as usize));
        let mut keys: Vec<RoundKey> = Vec::new();
        let mut sealed = Vec::new();
        for (from, reply) in self.replies.iter().filter(|(from, _)| inside(from)) {
            keys.push(reply.key.clone());
            let to = reply.sealed.iter().find(|(to, _)| *to == node);
            sealed.extend(to.map(|(_, sealed)| (*from, *sealed)));
        }
        let request = MaskedRequest { keys, sealed }.to_bytes(RUN, 1, node);
        let client = self.cohort.clients.get_mut(&node).unwrap();
        let message = client.masked_input(&request, &self.bindings[place], update, 1, &[])?;
        Ok(message[MaskedInput::PREFIX_LEN..].to_vec())
    }

    /// One client signs sets it is shown.
    pub(super) fn commit(&mut self, place: usize, sets: &Sets) -> Result<[u8; 64], SecAggError> {
        let sets = sets.clone();
        let request = CommitRequest { sets }.to_bytes(RUN, 1);
        let client = self.cohort.clients.get_mut(&self.ids[place]).unwrap();
        let reply = client.commit(&request)?;
        Ok(Commit::from_bytes(&reply).unwrap().1.signature)
    }

    /// Shares that a client gave in its unmask reply, its own included.
    pub(super) fn given_by(&self, place: usize) -> Vec<Share> {
        let x = x_of(index(&self.ids, self.ids[place]));
        let kept = self.seeds.values().chain(self.secrets.values());
        kept.filter_map(|held| held.get(&x).cloned()).collect()
    }

    /// The colluders sign whatever helps.
    pub(super) fn colluders_sign(&self, sets: &Sets) -> BTreeMap<u64, [u8; 64]> {
        self.colluders_sign_of(&BINDING, sets)
    }

    /// The same, in the name of those who work on something else.
    pub(super) fn colluders_sign_of(
        &self,
        binding: &[u8; 32],
        sets: &Sets,
    ) -> BTreeMap<u64, [u8; 64]> {
        let hash = Commit::hash(&self.place.transcript, binding, sets);
        let sign = |(node, colluder): (&u64, &Colluder)| {
            let header = Header {
                run: RUN,
                round: 1,
                node: *node,
            };
            let message = Commit::signed(&header, &hash);
            (*node, keys::sign(&colluder.identity, &message).unwrap())
        };
        self.colluders.iter().map(sign).collect()
    }

    /// The unmask step of one client; its answer is kept.
    pub(super) fn unmask(
        &mut self,
        place: usize,
        sets: &Sets,
        commits: &BTreeMap<u64, [u8; 64]>,
    ) -> Result<(), SecAggError> {
        let node = self.ids[place];
        let others = commits.iter().filter(|(from, _)| **from != node);
        let request = UnmaskRequest {
            sets: sets.clone(),
            commits: others
                .map(|(from, signature)| (*from, *signature))
                .collect(),
            next: None,
        };
        let client = self.cohort.clients.get_mut(&node).unwrap();
        let reply = client.unmask(&request.to_bytes(RUN, 1, node))?;
        let (_, reply) = UnmaskReply::from_bytes(&reply).unwrap();
        let x = x_of(index(&self.ids, node));
        let UnmaskReply { seeds, secrets, .. } = reply;
        for (kept, list) in [(&mut self.seeds, &seeds), (&mut self.secrets, &secrets)] {
            for (of, share) in list {
                kept.entry(*of).or_default().insert(x, share.clone());
            }
        }
        Ok(())
    }

    /// Sets in which everybody of `shared` survived but those of `dropped`.
    pub(super) fn sets(&self, shared: &[usize], dropped: &[usize]) -> Sets {
        let is = |list: &[usize], i: u32| list.contains(&(i as usize));
        let n = u32::try_from(self.ids.len()).unwrap();
        Sets::new(n, |i| is(shared, i), |i| is(shared, i) && !is(dropped, i))
    }

    /// What the shares held give: right only where they are as many as the threshold, if the sharing is sound.
    fn combine(&self, shares: &Shares, node: u64) -> Option<Key32> {
        let held = shares.get(&node)?;
        let some = || held.iter().take(self.threshold as usize);
        let xs: Vec<u64> = some().map(|(x, _)| *x).collect();
        shamir::combine(&shamir::weights(&xs), some().map(|(_, share)| share))
    }

    /// Whether the shares held give the client's own seed, and its own mask secret.
    pub(super) fn finds_secrets(&self, place: usize) -> [bool; 2] {
        let node = self.ids[place];
        let finds = |shares: &Shares, truth: &Key32| {
            self.combine(shares, node)
                .is_some_and(|found| found == *truth)
        };
        let (seed, mask_secret) = &self.truth[place];
        [finds(&self.seeds, seed), finds(&self.secrets, mask_secret)]
    }

    /// Shares of a client's seed and of its mask secret that the coalition holds.
    pub(super) fn held(&self, place: usize) -> [Vec<Share>; 2] {
        let held = |shares: &Shares| {
            let of = shares.get(&self.ids[place]).into_iter().flatten();
            of.map(|(_, share)| share.clone()).collect()
        };
        [held(&self.seeds), held(&self.secrets)]
    }

    fn mask_secret(&self, node: u64) -> Option<Key32> {
        let own = self.colluders.get(&node).map(|own| own.mask_secret.clone());
        let secret = own.or_else(|| self.combine(&self.secrets, node))?;
        (keys::public_key(&secret).ok()? == self.replies[&node].key.mask_key).then_some(secret)
    }

    /// Takes off the vector of a client, masked with those of `view`, every mask whose key the coalition can compute.
    pub(super) fn strip(&self, place: usize, view: &[usize], packed: &[u8]) -> Stripped {
        let node = self.ids[place];
        let key_of = |node: u64| self.replies[&node].key.mask_key;
        // as the client itself derived them
        let bound = self.place.bound(self.bindings[place]);
        let mut masks = Vec::new();
        let mut left = 0;
        let seeds = self.seeds.get(&node).map_or(0, BTreeMap::len);
        match self.combine(&self.seeds, node) {
            // nothing but the sum would show a wrong seed
            Some(seed) if seeds >= self.threshold as usize => {
                let key = bound.self_mask_key(&seed, node).unwrap();
                masks.push(Mask::new(&key, true).unwrap());
            }
            _ => left += 1,
        }
        let own = self.mask_secret(node);
        for peer in view.iter().map(|at| self.ids[*at]).filter(|id| *id != node) {
            let key = if let Some(secret) = &own {
                bound.pair_mask_key(&exchange(secret), node, peer, &key_of(peer))
            } else if let Some(secret) = self.mask_secret(peer) {
                bound.pair_mask_key(&exchange(&secret), peer, node, &key_of(node))
            } else {
                left += 1;
                continue;
            };
            masks.push(Mask::new(&key.unwrap(), node < peer).unwrap());
        }
        let width = self.plan.width().unwrap();
        let mut lanes = vec![0u64; packed.len() / width.bytes()];
        add_packed(width, &mut lanes, packed);
        let mut scratch = Scratch::new(width);
        for (chunk, lanes) in lanes.chunks_mut(CHUNK).enumerate() {
            apply(width, lanes, chunk, &masks, &mut scratch).unwrap();
        }
        let lanes = lanes.into_iter().map(|lane| signed(width, lane)).collect();
        Stripped { lanes, left }
    }

    /// The bytes of a client's answer to the share request that all see: mask key, signature, and the shares for the honest.
    pub(super) fn sealed_for_the_honest(&self, place: usize) -> (Vec<u8>, Vec<u8>) {
        let reply = &self.replies[&self.ids[place]];
        let honest = reply.sealed.iter();
        let honest = honest.filter(|(to, _)| !self.colluders.contains_key(to));
        let key = [
            &reply.key.mask_key[..],
            &reply.key.signature,
            &reply.seed_check,
        ]
        .concat();
        (key, honest.flat_map(|(_, sealed)| *sealed).collect())
    }
}

fn exchange(secret: &Key32) -> Exchange {
    Exchange::new(secret).unwrap()
}

fn index(ids: &[u64], node: u64) -> u32 {
    u32::try_from(ids.binary_search(&node).unwrap()).unwrap()
}
