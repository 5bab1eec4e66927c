//! The fuzz targets for some seconds, from their seeds, with the same mutations every time: for every `make test`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::time::Instant;

use aegis_secagg::fuzzing;

/// Ends the process at an allocation that no input can justify.
struct Bounded;

// SAFETY: everything is passed on to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        bound(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        bound(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn bound(size: usize) {
    if size > fuzzing::allocation_max() {
        std::process::abort();
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// xorshift64: the same inputs on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % below.max(1)
    }

    fn byte(&mut self) -> u8 {
        const EDGES: [u8; 6] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF];
        match self.roll(3) {
            0 => EDGES[self.roll(EDGES.len())],
            _ => self.roll(256).to_le_bytes()[0],
        }
    }

    fn mutate(&mut self, data: &mut Vec<u8>, other: &[u8]) {
        let at = self.roll(data.len() + 1);
        match self.roll(6) {
            0 => data.truncate(at),
            1 => {
                let byte = self.byte();
                data.insert(at, byte);
            }
            2 => {
                // A run of one value: lengths, ids, padding.
                let (byte, to) = (self.byte(), (at + 1 + self.roll(9)).min(data.len()));
                data[at..to].fill(byte);
            }
            3 => {
                let from = self.roll(other.len() + 1);
                let to = (from + self.roll(65)).min(other.len());
                let n = (to - from).min(data.len() - at);
                data[at..at + n].copy_from_slice(&other[from..from + n]);
            }
            _ => {
                let byte = self.byte();
                data.iter_mut().skip(at).take(1).for_each(|b| *b = byte);
            }
        }
    }
}

fn run(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>], executions: u32) {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let start = Instant::now();
    for seed in seeds {
        target(seed);
    }
    let mut data = Vec::new();
    for turn in 0..executions {
        if turn % 8 == 0 || data.len() > 64 << 10 {
            data.clone_from(&seeds[dice.roll(seeds.len())]);
        }
        let other = dice.roll(seeds.len());
        for _ in 0..=dice.roll(3) {
            dice.mutate(&mut data, &seeds[other]);
        }
        target(&data);
    }
    let rate = f64::from(executions) / start.elapsed().as_secs_f64();
    println!("{name}: {executions} executions, {rate:.0} a second");
}

#[test]
fn no_message_breaks_its_decoder() {
    let seeds = fuzzing::codec_seeds();
    run("codecs", fuzzing::codecs, &seeds, 3_000_000);
}

#[test]
fn a_client_gives_nothing_away_whatever_the_server_sends() {
    let seeds = fuzzing::client_seeds();
    run("client", fuzzing::client, &seeds, 30_000);
}

#[test]
fn no_client_changes_the_sum_of_the_others() {
    let seeds = fuzzing::server_seeds();
    run("server", fuzzing::server, &seeds, 30_000);
}
