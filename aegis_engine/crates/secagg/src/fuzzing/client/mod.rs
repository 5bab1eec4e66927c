//! Only the attack on one client may be put here.
//!
//! One client against a server that has all others on its side: their keys sign what it wants, and it changes any byte.

mod attack;
mod promises;
mod world;

use std::cell::RefCell;
use std::collections::HashMap;

use self::attack::Attack;
use self::world::{COMMIT, Given, MASKED, PLACE, REPEAT, RESTORE, SHARE, Scene, UNMASK, World};
use super::material::{self, Memory, NODES, fresh};
use super::program::Program;

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

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(world());
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

fn world() -> World {
    let mut world = World {
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
