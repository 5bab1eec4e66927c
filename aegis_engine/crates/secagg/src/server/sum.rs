//! The one accumulator of a round.

use crate::SecAggError;
use crate::mask::{CHUNK, Mask, Scratch, apply};
use crate::ring::{Lane, RingWidth, add_packed, signed};

/// Lanes of 32 bits where the ring fits them, of 64 otherwise.
#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
pub(crate) struct Accumulator {
    width: RingWidth,
    lanes: Lanes,
}

#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
enum Lanes {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Accumulator {
    pub(crate) fn new(width: RingWidth, len: usize) -> Self {
        let lanes = if width.bytes() <= 4 {
            Lanes::Narrow(vec![0; len])
        } else {
            Lanes::Wide(vec![0; len])
        };
        Self { width, lanes }
    }

    pub(crate) fn add(&mut self, packed: &[u8]) {
        match &mut self.lanes {
            Lanes::Narrow(lanes) => add_packed(self.width, lanes, packed),
            Lanes::Wide(lanes) => add_packed(self.width, lanes, packed),
        }
    }

    /// Adds masks on all cores. After an error the lanes are partly masked: the caller drops them.
    pub(crate) fn apply(&mut self, masks: &[Mask]) -> Result<(), SecAggError> {
        match &mut self.lanes {
            Lanes::Narrow(lanes) => apply_all(self.width, lanes, masks),
            Lanes::Wide(lanes) => apply_all(self.width, lanes, masks),
        }
    }

    /// The elements as signed integers.
    pub(crate) fn into_integers(self) -> Vec<i64> {
        let width = self.width;
        match self.lanes {
            Lanes::Narrow(lanes) => lanes.into_iter().map(|lane| signed(width, lane)).collect(),
            Lanes::Wide(lanes) => lanes.into_iter().map(|lane| signed(width, lane)).collect(),
        }
    }
}

fn apply_all<L: Lane>(
    width: RingWidth,
    lanes: &mut [L],
    masks: &[Mask],
) -> Result<(), SecAggError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunks = lanes.len().div_ceil(CHUNK).div_ceil(threads).max(1);
    let run = |first: usize, part: &mut [L]| {
        let mut scratch = Scratch::new(width);
        for (chunk, lanes) in part.chunks_mut(CHUNK).enumerate() {
            apply(width, lanes, first + chunk, masks, &mut scratch)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let parts = lanes.chunks_mut(chunks * CHUNK).enumerate();
        let workers: Vec<_> = parts
            .map(|(part, lanes)| scope.spawn(move || run(part * chunks, lanes)))
            .collect();
        let died = SecAggError::Crypto {
            what: "a mask thread panicked",
        };
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or(Err(died.clone())))
    })
}
