//! One client against a server that has all others on its side: their keys sign what it wants, and it changes any byte.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use super::material::{
    self, Ask, Bytes, MEMORY, Memory, NODES, RUN, contribution, fresh, restored,
};
use super::program::Program;
use crate::message::{
    Advert, Commit, CommitRequest, MaskedInput, MaskedRequest, RoundKey, Sets, ShareReply,
    ShareRequest, UnmaskReply, UnmaskRequest,
};
use crate::wire::Header;
use crate::{ClientRun, SecAggError, keys};

/// The client under attack: some ids are lower, some higher.
const PLACE: usize = 1;
const STEPS: usize = 6;

// Steps of a program, each behind its number.
const SHARE: u8 = 0;
const MASKED: u8 = 1;
const COMMIT: u8 = 2;
const UNMASK: u8 = 3;
const RESTORE: u8 = 4;
const REPEAT: u8 = 5;

/// Honest beginnings, from which executions go on: a share request to all six (of a profile), its masked request, and so on.
fn beginnings() -> Vec<Vec<u8>> {
    const ALL: u8 = 0b11_1111;
    const LESS: u8 = 0b01_1111;
    let mut all = vec![Vec::new()];
    for profile in 0..3u8 {
        let share = vec![SHARE, 1, profile, ALL, 0, 0];
        let masked = [&share[..], &[MASKED, ALL, 0, 0, 0]].concat();
        let mut last = masked.clone();
        all.extend([share, masked.clone()]);
        if profile > 0 {
            let commit = [&masked[..], &[COMMIT, ALL, LESS, 0]].concat();
            all.push(commit.clone());
            last = commit;
        }
        let signers = if profile > 0 { LESS } else { 0 };
        let unmask = [&last[..], &[UNMASK, ALL, LESS, signers, 0, 0]].concat();
        // the next round's shares come with the answer
        let next = [
            &last[..],
            &[UNMASK, ALL, LESS, signers, 1, 1, profile, ALL, 0, 0, 0],
        ]
        .concat();
        all.extend([unmask, next]);
    }
    all
}

/// What an execution begins with.
#[derive(Clone)]
struct Scene {
    state: Bytes,
    round: Option<Shared>,
    given: Given,
}

/// The share step as the server saw it: what all were asked, and this client's answer.
#[derive(Clone)]
struct Shared {
    header: Header,
    request: Vec<u8>,
    transcript: [u8; 32],
    cohort: Vec<usize>,
    reply: Vec<u8>,
    key: RoundKey,
    /// Those this client sealed shares for.
    near: Vec<u64>,
}

/// Everything that this client let out of its hands: it must never do so twice in a way that leaks.
#[derive(Clone, Default)]
struct Given {
    round: u64,
    masked: Option<u64>,
    binding: [u8; 32],
    signed: BTreeMap<u64, Sets>,
    /// By round and peer: whether a share of its seed (or else of its mask secret) was given.
    kinds: BTreeMap<(u64, u64), bool>,
}

/// The server's material, made once.
struct World {
    adverts: Vec<Advert>,
    states: Vec<Bytes>,
    memory: Memory,
    signatures: HashMap<([u8; 32], usize), [u8; 64]>,
    scenes: Vec<Scene>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// The first byte chooses the beginning, the rest are steps.
pub fn client(data: &[u8]) {
    let mut program = Program::new(data);
    WORLD.with_borrow_mut(|world| {
        let scene = usize::from(program.byte()) % world.scenes.len();
        let scene = world.scenes[scene].clone();
        Attack::new(world, scene).run(&mut program);
    });
}

/// Every beginning followed by every honest step and by hostile ones.
pub fn client_seeds() -> Vec<Vec<u8>> {
    const ALL: u8 = 0b11_1111;
    let beginnings = u8::try_from(beginnings().len()).expect("few");
    let steps: [&[u8]; 10] = [
        &[SHARE, 1, 0, ALL, 0, 0],
        &[SHARE, 2, 1, 0b01_1111, 0, 0],
        &[MASKED, ALL, 0, 0, 0],
        &[MASKED, 0b01_1111, 1, 0, 0],
        &[COMMIT, ALL, 0b01_1111, 0],
        &[COMMIT, ALL, ALL, 0],
        &[UNMASK, ALL, 0b01_1111, 0b01_1111, 0, 0],
        &[UNMASK, ALL, 0b11_1110, 0, 0, 0],
        &[UNMASK, ALL, 0b01_1111, 0b01_1111, 1, 1, 0, ALL, 0, 0, 0],
        &[RESTORE, REPEAT, 0, 0, 200, 7, 30, 0, 1],
    ];
    let mut seeds: Vec<Vec<u8>> = (0..beginnings)
        .flat_map(|first| steps.map(|step| [&[first], step].concat()))
        .collect();
    // a share request again, and another in its place
    seeds.push([&[0], steps[0], &steps[9][1..], steps[1]].concat());
    // a round, twice as far as steps go
    seeds.push([&[0], steps[0], steps[2], steps[7], steps[6], steps[9]].concat());
    seeds.push([&[0], steps[1], steps[2], steps[4], steps[5], steps[6]].concat());
    seeds
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            adverts: material::adverts(),
            states: (0..NODES.len()).map(fresh).collect(),
            memory: Memory::default(),
            signatures: HashMap::new(),
            scenes: Vec::new(),
        };
        let start = Scene {
            state: fresh(PLACE),
            round: None,
            given: Given::default(),
        };
        let scenes = beginnings().into_iter().map(|beginning| {
            let mut attack = Attack::new(&mut world, start.clone());
            attack.run(&mut Program::new(&beginning));
            assert!(attack.refused.is_none(), "{:?}", attack.refused);
            Scene {
                state: attack.client.to_bytes().as_slice().into(),
                round: attack.round,
                given: attack.given,
            }
        });
        let scenes = scenes.collect();
        world.scenes = scenes;
        world
    }

    /// What another client answers to the same share request.
    fn peer(&mut self, place: usize, version: u8, request: &[u8]) -> Option<ShareReply> {
        let ask = Ask::Share(version % 2);
        let (_, reply) = self.memory.ask(place, &self.states[place], ask, request)?;
        Some(ShareReply::from_bytes(&reply).ok()?.1)
    }

    /// Another client's signature of whatever the server wants.
    fn commit(&mut self, place: usize, header: Header, hash: [u8; 32]) -> [u8; 64] {
        if self.signatures.len() > MEMORY {
            self.signatures.clear();
        }
        let sign = || {
            let node = NODES[place];
            let message = Commit::signed(&Header { node, ..header }, &hash);
            keys::sign(&material::identity(place), &message).expect("keys")
        };
        *self.signatures.entry((hash, place)).or_insert_with(sign)
    }
}

/// One execution.
struct Attack<'a> {
    world: &'a mut World,
    client: ClientRun,
    round: Option<Shared>,
    given: Given,
    sent: Vec<(u8, Vec<u8>)>,
    refused: Option<SecAggError>,
}

impl<'a> Attack<'a> {
    fn new(world: &'a mut World, scene: Scene) -> Self {
        Self {
            world,
            client: restored(&scene.state),
            round: scene.round,
            given: scene.given,
            sent: Vec::new(),
            refused: None,
        }
    }

    fn run(&mut self, program: &mut Program) {
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

    /// Calls the client, and holds it to what it promises whatever comes.
    fn deliver(&mut self, kind: u8, message: &[u8], program: &mut Program) {
        let before = self.client.to_bytes();
        let answer = match kind {
            SHARE => self.client.share(message),
            MASKED => {
                let (mut values, weight, metrics) = contribution(PLACE);
                let odd = program.byte();
                if odd == 255 {
                    values[0] = f32::NAN;
                }
                let dry = self.client.check_masked(message, values.len());
                assert!(
                    *self.client.to_bytes() == *before,
                    "a dry run changed the state"
                );
                // whatever it works on: that decides which masks come out, never whether they do
                let binding = [odd % 2; 32];
                let reply = self
                    .client
                    .masked_input(message, &binding, &values, weight, &metrics);
                let finite = values[0].is_finite();
                assert_eq!(
                    dry.is_ok() && finite,
                    reply.is_ok(),
                    "a dry run says what comes"
                );
                if reply.is_ok() {
                    self.given.binding = binding;
                }
                reply
            }
            COMMIT => self.client.commit(message),
            _ => self.client.unmask(message),
        };
        match answer {
            Err(error) => {
                assert!(
                    *self.client.to_bytes() == *before,
                    "a refused call changed the state: {error}"
                );
                self.refused = Some(error);
            }
            Ok(reply) => match kind {
                SHARE => self.shared(message, &reply),
                MASKED => self.masked(&reply),
                COMMIT => self.committed(message),
                _ => self.unmasked(message, &reply),
            },
        }
        assert_eq!(
            self.client.round(),
            self.given.round,
            "rounds begin with shares only"
        );
    }

    fn shared(&mut self, request: &[u8], reply: &[u8]) {
        let (header, parsed) = ShareRequest::from_bytes(request).expect("it was answered");
        if let Some(round) = self.round.as_ref().filter(|round| round.request == request) {
            assert!(round.reply == reply, "one answer to one request");
            assert!(self.given.masked != Some(header.round));
            return;
        }
        let bytes = reply;
        let (mine, reply) = ShareReply::from_bytes(bytes).expect("a share reply");
        assert!(header.round > self.given.round, "rounds only go forward");
        let (plan, own) = (&parsed.plan, material::sums());
        assert!(
            plan.metrics == own.metrics
                && plan.encoding.metric_max == own.metric_max
                && plan.encoding.weight_max <= own.weight_max,
            "the sums are the client's own"
        );
        assert_eq!(
            mine,
            Header {
                node: NODES[PLACE],
                ..header
            }
        );
        let cohort = parsed
            .cohort
            .iter()
            .filter_map(|advert| place_of(advert.node));
        self.given.round = header.round;
        self.round = Some(Shared {
            header,
            request: request.to_vec(),
            transcript: keys::hash(crate::client::share::COHORT, &[request]),
            cohort: cohort.collect(),
            reply: bytes.to_vec(),
            key: reply.key,
            near: reply.sealed.iter().map(|(node, _)| *node).collect(),
        });
    }

    fn masked(&mut self, reply: &[u8]) {
        let plan = self.client.plan().expect("a round is in progress");
        let (width, len) = (plan.width().expect("checked"), plan.len().expect("checked"));
        let (header, _) = MaskedInput::from_bytes(reply, width, len).expect("a masked input");
        assert_eq!((header.run, header.round), (RUN, self.given.round));
        assert!(
            self.given.masked.is_none_or(|last| last < header.round),
            "at most one masked input a round"
        );
        self.given.masked = Some(header.round);
    }

    fn committed(&mut self, request: &[u8]) {
        let (header, request) = CommitRequest::from_bytes(request).expect("it was answered");
        assert_eq!(self.given.masked, Some(header.round));
        let signed = self.given.signed.entry(header.round);
        let signed = signed.or_insert_with(|| request.sets.clone());
        assert!(*signed == request.sets, "one signed set a round");
    }

    fn unmasked(&mut self, request: &[u8], reply: &[u8]) {
        let (header, request) = UnmaskRequest::from_bytes(request).expect("it was answered");
        let (mine, reply) = UnmaskReply::from_bytes(reply).expect("an unmask reply");
        assert_eq!(mine, header);
        assert_eq!(self.given.masked, Some(header.round));
        let commit = self.round.as_ref().is_some_and(|round| {
            let (_, parsed) = ShareRequest::from_bytes(&round.request).expect("it was answered");
            parsed.shape.commit
        });
        if commit {
            assert!(
                self.given.signed.get(&header.round) == Some(&request.sets),
                "only the signed set is unmasked"
            );
        }
        for (list, seeds) in [(&reply.seeds, true), (&reply.secrets, false)] {
            for (node, _) in list {
                let before = self.given.kinds.insert((header.round, *node), seeds);
                assert!(
                    before.is_none_or(|before| before == seeds),
                    "never both kinds"
                );
            }
        }
        let me = (header.round, NODES[PLACE]);
        assert_ne!(
            self.given.kinds.get(&me),
            Some(&false),
            "its own mask secret"
        );
        if let (Some(next), Some(asked)) = (reply.next, request.next) {
            self.shared(asked, next);
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

fn place_of(node: u64) -> Option<usize> {
    NODES.iter().position(|known| *known == node)
}
