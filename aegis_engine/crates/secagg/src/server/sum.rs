//! The one accumulator of a round, and what it holds when all masks are off.

use std::collections::BTreeMap;

use crate::error::SecAggError;
use crate::mask::{CHUNK, Mask, Scratch, apply};
use crate::plan::Plan;
use crate::ring::{Lane, RingWidth, add_packed, signed};

/// What a round gives: exact integers and the mean they stand for. It is the accumulator itself: one vector in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    lanes: Accumulator,
    /// Model values among the lanes, which come first.
    dim: usize,
    /// One unit of a value's integer in the mean.
    step: f64,
    /// Whose contributions are in it, in increasing order.
    pub contributors: Vec<u64>,
    /// Sum of the weights.
    pub weight: u64,
    /// Sums of the metrics by name.
    pub metrics: BTreeMap<String, i64>,
    /// Shares that did not belong to the others of their secret, and did not cost the round.
    pub false_shares: Vec<FalseShare>,
}

/// A false share: its holder sent another than it was given, or the owner of the secret had sealed it a false one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FalseShare {
    /// Who sent it.
    pub holder: u64,
    /// Whose secret it is of.
    pub owner: u64,
}

impl Sum {
    /// Checks that honest clients could have made this sum.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the mean is a float; the exact integers are given too"
    )]
    pub(super) fn of(
        plan: &Plan,
        lanes: Accumulator,
        contributors: Vec<u64>,
    ) -> Result<Self, SecAggError> {
        let n = contributors.len() as u128;
        let implausible = |reason| Err(SecAggError::ImplausibleSum { reason });
        let digits = plan.digits()?;
        let each = digits.count as usize;
        let dim = plan.len()? - 1 - plan.metrics.len() * each;
        let Some(weight) = u64::try_from(lanes.integer(dim)).ok().filter(|weight| {
            (n..=n * u128::from(plan.encoding.weight_max)).contains(&u128::from(*weight))
        }) else {
            return implausible("the weight is out of range");
        };
        let most = u128::from(plan.encoding.steps()) * u128::from(weight);
        let mut inside = true;
        lanes.each(dim, |value| {
            inside &= u128::from(value.unsigned_abs()) <= most;
        });
        if !inside {
            return implausible("a value is out of range");
        }
        let most = n * u128::from(plan.encoding.metric_max);
        let mut metrics = BTreeMap::new();
        for (place, name) in plan.metrics.iter().enumerate() {
            let start = dim + 1 + place * each;
            let value = digits.join((start..start + each).map(|at| lanes.integer(at)));
            match value.filter(|value| u128::from(value.unsigned_abs()) <= most) {
                Some(value) => metrics.insert(name.clone(), value),
                None => return implausible("a metric is out of range"),
            };
        }
        Ok(Self {
            lanes,
            dim,
            step: 1.0 / (plan.encoding.scale() * weight as f64),
            contributors,
            weight,
            metrics,
            false_shares: Vec::new(),
        })
    }

    /// The plain integer sum over the contributors: weighted values, weight, digits of the metrics.
    pub fn integers(&self) -> Vec<i64> {
        let mut out = Vec::with_capacity(self.lanes.len());
        self.lanes.each(usize::MAX, |value| out.push(value));
        out
    }

    /// Number of values in the mean.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Gives the weighted mean of the values, `dim` of them in order, in the units of the updates.
    #[expect(clippy::cast_precision_loss, reason = "as in `of`")]
    pub fn mean(&self, mut take: impl FnMut(f64)) {
        self.lanes
            .each(self.dim, |value| take(value as f64 * self.step));
    }
}

/// Lanes of 32 bits where the ring fits them, of 64 otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accumulator {
    width: RingWidth,
    lanes: Lanes,
}

#[derive(Debug, Clone, PartialEq)]
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

    fn len(&self) -> usize {
        match &self.lanes {
            Lanes::Narrow(lanes) => lanes.len(),
            Lanes::Wide(lanes) => lanes.len(),
        }
    }

    /// One element as a signed integer.
    fn integer(&self, place: usize) -> i64 {
        match &self.lanes {
            Lanes::Narrow(lanes) => signed(self.width, lanes[place]),
            Lanes::Wide(lanes) => signed(self.width, lanes[place]),
        }
    }

    /// The first elements, at most `most`, as signed integers.
    fn each(&self, most: usize, take: impl FnMut(i64)) {
        let width = self.width;
        match &self.lanes {
            Lanes::Narrow(lanes) => {
                let lanes = lanes.iter().take(most);
                lanes.map(|lane| signed(width, *lane)).for_each(take);
            }
            Lanes::Wide(lanes) => {
                let lanes = lanes.iter().take(most);
                lanes.map(|lane| signed(width, *lane)).for_each(take);
            }
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
