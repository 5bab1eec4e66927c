//! The server against clients that send what they like, beside honest ones.

use std::cell::RefCell;

use super::material::{self, Ask, BINDING, Bytes, Memory, NODES, RUN, contribution, fresh, plan};
use super::program::Program;
use crate::encode::encode;
use crate::error::SecAggError;
use crate::server::{ServerRun, Sum};

const STEPS: usize = 12;

// Steps of a program, each behind its number.
const SHARE: u8 = 0;
const MASKED: u8 = 1;
const COMMIT: u8 = 2;
const UNMASK: u8 = 3;
const END_SHARES: u8 = 4;
const END_MASKED: u8 = 5;
const FINISH: u8 = 6;
const BEGIN: u8 = 7;
const ADVERT: u8 = 8;
const REPEAT: u8 = 9;

const ALL: u8 = 0b11_1111;

/// The same step of several clients, unchanged.
fn each(kind: u8, places: std::ops::Range<u8>) -> Vec<u8> {
    places.flat_map(|place| [kind, place, 0, 0]).collect()
}

/// Honest beginnings of one profile, from which executions go on.
fn beginnings(profile: u8) -> Vec<Vec<u8>> {
    let n = 6;
    let mut all = vec![Vec::new()];
    let mut steps = vec![
        vec![BEGIN, 1, ALL],
        each(SHARE, 0..n - 2),
        each(SHARE, n - 2..n),
        vec![END_SHARES],
        each(MASKED, 0..n - 2),
        each(MASKED, n - 2..n - 1),
        vec![END_MASKED],
    ];
    if profile > 0 {
        steps.push(each(COMMIT, 0..n - 1));
    }
    steps.push(each(UNMASK, 0..n - 3));
    steps.push(each(UNMASK, n - 3..n - 1));
    for step in steps {
        let last = all.last().cloned().unwrap_or_default();
        all.push([last, step].concat());
    }
    all
}

/// What an execution begins with.
#[derive(Clone)]
struct Scene {
    server: ServerRun,
    /// What each honest client knows.
    states: Vec<Bytes>,
    round: Round,
}

/// What the server took in this round.
#[derive(Clone, Default)]
struct Round {
    /// What all were asked for shares with.
    request: Vec<u8>,
    /// What each client knew then: whoever answers twice does so from here.
    before: Vec<Bytes>,
    contributors: Vec<u64>,
    /// A masked input that no honest client made.
    false_input: bool,
    /// Anything else that no honest client made.
    false_answer: bool,
}

struct World {
    adverts: Vec<Vec<u8>>,
    memory: Memory,
    scenes: Vec<Scene>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// The first byte chooses the beginning, the rest are steps.
pub fn server(data: &[u8]) {
    let mut program = Program::new(data);
    WORLD.with_borrow_mut(|world| {
        let scene = usize::from(program.byte()) % world.scenes.len();
        let scene = world.scenes[scene].clone();
        Attack::new(world, scene).run(&mut program);
    });
}

/// Every beginning followed by what comes next, by its end, and by hostile steps.
pub fn server_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut first = 0;
    for profile in 0..3 {
        for _ in beginnings(profile) {
            let steps: [Vec<u8>; 8] = [
                vec![FINISH, FINISH],
                vec![END_SHARES, MASKED, 4, 0, 0, END_MASKED],
                [&[SHARE, 5, 1, 0], &each(SHARE, 4..6)[..]].concat(),
                vec![SHARE, 4, 0, 201, 6, 90, 0, 1, END_SHARES],
                vec![MASKED, 4, 0, 201, 6, 60, 0, 1, END_MASKED, UNMASK, 1, 0, 0],
                [each(COMMIT, 3..5), each(UNMASK, 3..5), vec![FINISH]].concat(),
                vec![UNMASK, 3, 0, 201, 6, 40, 0, 1, UNMASK, 4, 0, 0, FINISH],
                vec![ADVERT, 2, 0, 0, BEGIN, 1, ALL, REPEAT, 0, 9, 0, 0],
            ];
            seeds.extend(steps.iter().map(|step| [&[first], &step[..]].concat()));
            first += 1;
        }
    }
    seeds
}

impl World {
    fn new() -> Self {
        let adverts = material::adverts();
        let mut world = Self {
            adverts: adverts.iter().map(|advert| advert.to_bytes(RUN)).collect(),
            memory: Memory::default(),
            scenes: Vec::new(),
        };
        let mut scenes = Vec::new();
        for (number, profile) in (0u8..).zip(material::PROFILES) {
            let server = ServerRun::new(RUN, plan(), 2).expect("a plan");
            let mut server = server.with_profile(profile);
            server.bind(BINDING);
            for (node, advert) in NODES.into_iter().zip(&world.adverts) {
                server.add_advert(node, advert).expect("honest");
            }
            let start = Scene {
                server,
                states: (0..NODES.len()).map(fresh).collect(),
                round: Round::default(),
            };
            for beginning in beginnings(number) {
                let mut attack = Attack::new(&mut world, start.clone());
                attack.steps = usize::MAX;
                attack.run(&mut Program::new(&beginning));
                assert!(attack.refused.is_none(), "{:?}", attack.refused);
                scenes.push(attack.scene);
            }
        }
        world.scenes = scenes;
        world
    }
}

/// One execution.
struct Attack<'a> {
    world: &'a mut World,
    scene: Scene,
    steps: usize,
    sent: Vec<(u8, usize, Vec<u8>)>,
    refused: Option<SecAggError>,
}

impl<'a> Attack<'a> {
    fn new(world: &'a mut World, scene: Scene) -> Self {
        Self {
            world,
            scene,
            steps: STEPS,
            sent: Vec::new(),
            refused: None,
        }
    }

    fn run(&mut self, program: &mut Program) {
        for _ in 0..self.steps {
            let Some(step) = program.more() else {
                return;
            };
            match step % 10 {
                kind @ (SHARE | MASKED | COMMIT | UNMASK) => self.answer(kind, program),
                END_SHARES => self.end(ServerRun::end_shares),
                END_MASKED => self.end(ServerRun::end_masked),
                FINISH => self.finish(),
                BEGIN => self.begin(program),
                ADVERT => {
                    let place = usize::from(program.byte()) % NODES.len();
                    let mut message = self.world.adverts[place].clone();
                    program.change(&mut message, &[]);
                    self.deliver(ADVERT, place, &message);
                }
                _ => {
                    // a message sent before, as another client's or in another step
                    let which = usize::from(program.byte()) % 8;
                    let (place, to) = (program.byte(), program.byte());
                    let found = self.sent.iter().rev().cycle().nth(which).cloned();
                    if let Some((kind, from, mut message)) = found {
                        program.change(&mut message, &[]);
                        let place = if place < 64 { place.into() } else { from };
                        self.deliver(if to < 64 { to % 4 } else { kind }, place, &message);
                    }
                }
            }
        }
    }

    /// What the honest client at a place answers now, changed or not, perhaps in another's name.
    fn answer(&mut self, kind: u8, program: &mut Program) {
        let place = usize::from(program.byte()) % NODES.len();
        let how = program.byte();
        let last = self.sent.last().map(|(_, _, message)| message.clone());
        let honest = self.honest(kind, place, how);
        // clients also speak when they have not been asked
        let Some(mut message) = honest.map(|(_, reply)| reply.to_vec()).or(last.clone()) else {
            return;
        };
        program.change(&mut message, &last.unwrap_or_default());
        let sender = if how < 128 { place } else { how.into() };
        self.deliver(kind, sender, &message);
        self.sent.push((kind, place, message));
    }

    /// What an honest client answers to the request the server has for it now, and knows afterwards.
    fn honest(&mut self, kind: u8, place: usize, version: u8) -> Option<(Bytes, Bytes)> {
        let (scene, node) = (&self.scene, NODES[place]);
        let (ask, request) = match kind {
            SHARE => (Ask::Share(version % 2), scene.round.request.clone()),
            MASKED => (Ask::Masked, scene.server.masked_request(node).ok()?),
            COMMIT => (Ask::Commit, scene.server.commit_request().ok()?),
            _ => (Ask::Unmask, scene.server.unmask_request(node, None).ok()?),
        };
        let states = match kind {
            SHARE => &scene.round.before,
            _ => &scene.states,
        };
        let state = states.get(place)?;
        self.world.memory.ask(place, state, ask, &request)
    }

    /// Gives the server a message of the client at a place, and holds it to what it promises whatever comes.
    fn deliver(&mut self, kind: u8, sender: usize, message: &[u8]) {
        let place = sender % NODES.len();
        let node = NODES[place];
        let before = self.scene.server.clone();
        let server = &mut self.scene.server;
        let taken = match kind {
            SHARE => server.add_share(node, message),
            MASKED => server.add_masked(node, message),
            COMMIT => server.add_commit(node, message),
            UNMASK => server.add_unmask(node, message).map(drop),
            _ => server.add_advert(node, message).map(|_| ()),
        };
        if let Err(error) = taken {
            return self.refused(&before, error);
        }
        if kind == ADVERT {
            assert!(
                self.world.adverts[place] == message,
                "it cannot sign another"
            );
            return;
        }
        let versions = if kind == SHARE { 0..2 } else { 0..1 };
        let mut honest = versions.filter_map(|version| self.honest(kind, place, version));
        let honest = honest.find(|(_, reply)| **reply == *message);
        let round = &mut self.scene.round;
        if kind == MASKED {
            round.contributors.push(node);
            round.false_input |= honest.is_none();
        } else {
            round.false_answer |= honest.is_none();
        }
        // a client whose answer was changed on the way goes on all the same
        let state = honest.or_else(|| self.honest(kind, place, 0));
        if let Some((state, _)) = state {
            self.scene.states[place] = state;
        }
    }

    fn refused(&mut self, before: &ServerRun, error: SecAggError) {
        assert!(
            self.scene.server == *before,
            "a refused call changed the round: {error}"
        );
        self.refused = Some(error);
    }

    fn end(&mut self, end: fn(&mut ServerRun) -> Result<Vec<u64>, SecAggError>) {
        let before = self.scene.server.clone();
        match end(&mut self.scene.server) {
            Err(error) => self.refused(&before, error),
            Ok(nodes) => {
                let again = end(&mut self.scene.server).expect("asked again, the same");
                assert_eq!(nodes, again);
            }
        }
    }

    fn begin(&mut self, program: &mut Program) {
        let (later, members) = (program.byte(), program.byte());
        let cohort: Vec<u64> = (0..NODES.len())
            .filter(|place| members >> place & 1 == 1)
            .map(|place| NODES[place])
            .collect();
        let before = self.scene.server.clone();
        let number = before.round().wrapping_add(later.into());
        match self.scene.server.begin_round(number, &cohort) {
            Err(error) => self.refused(&before, error),
            Ok(request) => {
                assert!(number > before.round(), "rounds only go forward");
                self.scene.round = Round {
                    request,
                    before: self.scene.states.clone(),
                    ..Round::default()
                };
            }
        }
    }

    fn finish(&mut self) {
        let before = self.scene.server.clone();
        let round = &mut self.scene.round;
        match self.scene.server.finish() {
            Ok(sum) => {
                round.contributors.sort_unstable();
                assert_eq!(sum.contributors, round.contributors);
                if !round.false_input {
                    assert_eq!(integers(&sum), plain_sum(&sum.contributors));
                }
            }
            Err(error @ (SecAggError::NotEnoughClients { .. } | SecAggError::WrongStep { .. })) => {
                self.refused(&before, error);
            }
            Err(error) => {
                let known = matches!(
                    error,
                    SecAggError::SharesDisagree { .. } | SecAggError::ImplausibleSum { .. }
                );
                assert!(known, "{error}");
                assert!(
                    round.false_input || round.false_answer,
                    "what was refused spoiled the round: {error}"
                );
                self.refused = Some(error);
            }
        }
    }
}

fn integers(sum: &Sum) -> Vec<i64> {
    sum.integers()
}

fn plain_sum(contributors: &[u64]) -> Vec<i64> {
    let mut sum = vec![0; plan().len().expect("a plan")];
    for place in (0..NODES.len()).filter(|place| contributors.contains(&NODES[*place])) {
        let (values, weight, metrics) = contribution(place);
        let one = encode(&values, weight, &metrics, &plan()).expect("within the plan");
        sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
    }
    sum
}
