//! A fuzz target for some seconds, from its seeds, with the same mutations every time. Included by path.

use std::time::Instant;

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

pub fn run(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>], executions: u32) {
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
