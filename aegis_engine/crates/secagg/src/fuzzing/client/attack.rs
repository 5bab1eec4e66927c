//! One execution: what the server asks for.

use super::super::material::{self, NODES, RUN, restored};
use super::super::program::Program;
use super::world::{COMMIT, Given, MASKED, PLACE, RESTORE, SHARE, Scene, Shared, UNMASK, World};
use crate::client::ClientRun;
use crate::error::SecAggError;
use crate::message::{Commit, CommitRequest, MaskedRequest, Sets, UnmaskRequest};
use crate::wire::Header;

const STEPS: usize = 6;

/// One execution.
pub(super) struct Attack<'a> {
    pub(super) world: &'a mut World,
    pub(super) client: ClientRun,
    pub(super) round: Option<Shared>,
    pub(super) given: Given,
    pub(super) sent: Vec<(u8, Vec<u8>)>,
    pub(super) refused: Option<SecAggError>,
}

impl<'a> Attack<'a> {
    pub(super) fn new(world: &'a mut World, scene: Scene) -> Self {
        Self {
            world,
            client: restored(&scene.state),
            round: scene.round,
            given: scene.given,
            sent: Vec::new(),
            refused: None,
        }
    }

    pub(super) fn run(&mut self, program: &mut Program) {
        for _ in 0..STEPS {
            let Some(step) = program.more() else {
                return;
            };
            let (kind, mut message) = match step % 6 {
                SHARE => (SHARE, self.share_request(program)),
                MASKED => (MASKED, self.masked_request(program)),
                COMMIT => (COMMIT, self.commit_request(program)),
                UNMASK => (UNMASK, self.unmask_request(program)),
                RESTORE => {
                    let state = self.client.to_bytes();
                    self.client = restored(&state);
                    assert!(*self.client.to_bytes() == *state, "another state was read");
                    continue;
                }
                _ => {
                    // a message sent before, also to a step it is not meant for
                    let (which, to) = (usize::from(program.byte()), program.byte());
                    let Some((kind, message)) = self.sent.iter().rev().cycle().nth(which % 8)
                    else {
                        continue;
                    };
                    (if to < 64 { to % 4 } else { *kind }, message.clone())
                }
            };
            let other = self.sent.last().map_or(&[][..], |(_, message)| message);
            program.change(&mut message, other);
            self.deliver(kind, &message, program);
            self.sent.push((kind, message));
        }
    }

    fn share_request(&mut self, program: &mut Program) -> Vec<u8> {
        let (later, profile, members) = (program.byte(), program.byte(), program.byte());
        let mut request = material::share_request(&self.world.adverts, members, profile);
        match program.byte() {
            0 => {}
            1 => request.shape.degree = program.byte().into(),
            2 => request.shape.threshold = program.byte().into(),
            3 => request.shape.commit ^= true,
            4 => request.plan.dim = program.byte().into(),
            5 => request.plan.n_max = program.byte().into(),
            6 => request.plan.encoding.weight_max = 1 << (program.byte() % 64),
            7 => request.plan.metrics.push("loss".to_owned()),
            _ => {
                // one client's keys in another's seat, or one client twice
                let n = request.cohort.len().max(1);
                let (to, from) = (program.byte(), program.byte());
                let from = request.cohort.get(usize::from(from) % n).cloned();
                let to = request.cohort.get_mut(usize::from(to) % n);
                if let (Some(to), Some(from)) = (to, from) {
                    let node = to.node;
                    *to = from;
                    to.node = node;
                }
            }
        }
        // 1 is the next round, 0 the one in progress; far ones too
        let later = if later < 128 {
            later.into()
        } else {
            u64::MAX / u64::from(later)
        };
        request.to_bytes(RUN, self.given.round.wrapping_add(later))
    }

    fn masked_request(&mut self, program: &mut Program) -> Vec<u8> {
        let (who, version) = (program.byte(), program.byte());
        let mut request = MaskedRequest {
            keys: Vec::new(),
            sealed: Vec::new(),
        };
        let Some(round) = &self.round else {
            return request.to_bytes(RUN, self.given.round, NODES[PLACE]);
        };
        for place in round
            .cohort
            .iter()
            .copied()
            .filter(|place| who >> place & 1 == 1)
        {
            if place == PLACE {
                request.keys.push(round.key.clone());
                continue;
            }
            let Some(reply) = self.world.peer(place, version >> place, &round.request) else {
                continue;
            };
            let mine = reply.sealed.iter().find(|(to, _)| *to == NODES[PLACE]);
            // in a sparse graph only neighbours seal something for this client
            if let Some((_, sealed)) = mine {
                request.keys.push(reply.key);
                request.sealed.push((NODES[place], *sealed));
            }
        }
        request.to_bytes(RUN, round.header.round, NODES[PLACE])
    }

    fn sets(&self, program: &mut Program) -> Sets {
        let (shared, survivors) = (program.byte(), program.byte());
        let cohort = self.round.as_ref().map_or(&[][..], |round| &round.cohort);
        let has = |bits: u8, index: u32| {
            let place = cohort.get(index as usize);
            place.is_some_and(|place| bits >> place & 1 == 1)
        };
        let n = u32::try_from(cohort.len()).expect("six places");
        Sets::new(n, |index| has(shared, index), |index| has(survivors, index))
    }

    fn commit_request(&mut self, program: &mut Program) -> Vec<u8> {
        let sets = self.sets(program);
        CommitRequest { sets }.to_bytes(RUN, self.given.round)
    }

    fn unmask_request(&mut self, program: &mut Program) -> Vec<u8> {
        let sets = self.sets(program);
        let (signers, next) = (program.byte(), program.byte());
        let mut commits = Vec::new();
        let header = Header {
            run: RUN,
            round: self.given.round,
            node: NODES[PLACE],
        };
        if let Some(round) = &self.round {
            let hash = Commit::hash(&round.transcript, &self.given.binding, &sets);
            for &place in &round.cohort {
                if place != PLACE && signers >> place & 1 == 1 && round.near.contains(&NODES[place])
                {
                    commits.push((NODES[place], self.world.commit(place, header, hash)));
                }
            }
        }
        let next = (next % 2 == 1).then(|| {
            let mut next = self.share_request(program);
            program.change(&mut next, &[]);
            next
        });
        let request = UnmaskRequest {
            sets,
            commits,
            next: next.as_deref(),
        };
        request.to_bytes(header.run, header.round, header.node)
    }
}
