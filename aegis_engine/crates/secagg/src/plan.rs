//! What a run sums, and how its numbers become integers of one ring.

use crate::error::SecAggError;
use crate::ring::RingWidth;

/// How one contribution becomes integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Encoding {
    /// Values are clamped to [-clip, clip]; 1e-12 to 1e12.
    pub clip: f64,
    /// Bits of one value with its sign, 8 to 30: steps of `clip / (2^(value_bits-1) - 1)`.
    pub value_bits: u8,
    /// Largest weight of one client, 1 or more; one that is larger counts as this.
    pub weight_max: u64,
    /// Largest absolute value of one client's metric, beyond which it counts as this; 0 when there are no metrics. A metric that is too large for the
    /// ring is several elements, its digits: few metrics must not widen the ring of a million values.
    pub metric_max: u64,
}

/// What is summed: `dim` weighted values, then the weight, then the digits of the metrics. The same for all clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Number of model values, 1 to 2^40.
    pub dim: u64,
    /// Names of the metrics, in the order their values are given; distinct, at most 4096.
    pub metrics: Vec<String>,
    /// How numbers become integers.
    pub encoding: Encoding,
    /// Largest cohort of this run; the ring is wide enough for it.
    pub n_max: u32,
}

/// Largest cohort the codecs accept.
pub(crate) const MAX_CLIENTS: u32 = 1 << 16;

pub(crate) const MAX_METRICS: usize = 4096;

pub(crate) const MAX_NAME: usize = 256;

const MAX_DIM: u64 = 1 << 40;

const CLIP: std::ops::RangeInclusive<f64> = 1e-12..=1e12;

impl Encoding {
    /// The smallest ring in which the sum over `n` clients cannot wrap.
    ///
    /// # Errors
    /// [`SecAggError::EncodingDoesNotFit`] above 64 bits, [`SecAggError::InvalidPlan`] for impossible fields.
    pub fn width(&self, n: u64) -> Result<RingWidth, SecAggError> {
        let invalid = |reason| Err(SecAggError::InvalidPlan { reason });
        if !CLIP.contains(&self.clip) {
            return invalid("clip must be 1e-12 to 1e12");
        }
        if !(8..=30).contains(&self.value_bits) {
            return invalid("value_bits must be 8 to 30");
        }
        if self.weight_max == 0 {
            return invalid("weight_max must be 1 or more");
        }
        let does_not_fit = SecAggError::EncodingDoesNotFit { clients: n };
        let one = u128::from(self.steps()) * u128::from(self.weight_max);
        let sums = one.checked_mul(u128::from(n));
        let metrics = u128::from(self.metric_max) * u128::from(n);
        let Some(sum) = sums.filter(|_| metrics < 1 << 63) else {
            return Err(does_not_fit);
        };
        (2..=8)
            .filter_map(RingWidth::from_bytes)
            .find(|width| sum < 1 << (width.bits() - 1))
            .ok_or(does_not_fit)
    }

    /// How a metric is cut into digits in the ring for `n` clients: bits of a digit, and how many. The sum of `n` digits cannot
    /// wrap, so the digits of a sum are the sums of the digits, without carries.
    ///
    /// # Errors
    /// As [`Encoding::width`].
    pub(crate) fn digits(&self, n: u64) -> Result<Digits, SecAggError> {
        let most = (1u64 << (self.width(n)?.bits() - 1)) - 1;
        // the ring holds n values of 7 bits or more, so a digit has as many; 31 keep shifts of its sum inside 64 bits
        let bits = (most / n + 1).ilog2().min(31);
        let top = (1u128 << bits) - 1;
        let fits = |count: &u32| u128::from(self.metric_max) <= top << (bits * (count - 1));
        let count = (1..=10).find(fits);
        let count = count.ok_or(SecAggError::EncodingDoesNotFit { clients: n })?;
        Ok(Digits { bits, count })
    }

    /// Largest quantised value: 2^(q-1) - 1, so that the range is symmetric.
    pub(crate) const fn steps(&self) -> u64 {
        (1 << (self.value_bits - 1)) - 1
    }

    #[expect(clippy::cast_precision_loss, reason = "steps are below 2^29")]
    pub(crate) fn scale(&self) -> f64 {
        self.steps() as f64 / self.clip
    }
}

impl Plan {
    /// Width of the ring for the largest cohort.
    ///
    /// # Errors
    /// [`SecAggError::EncodingDoesNotFit`] and [`SecAggError::InvalidPlan`].
    pub fn width(&self) -> Result<RingWidth, SecAggError> {
        let invalid = |reason| Err(SecAggError::InvalidPlan { reason });
        if !(1..=MAX_DIM).contains(&self.dim) {
            return invalid("dim must be 1 to 2^40");
        }
        if !(2..=MAX_CLIENTS).contains(&self.n_max) {
            return invalid("n_max must be 2 to 65536");
        }
        if self.metrics.len() > MAX_METRICS || self.metrics.iter().any(|m| m.len() > MAX_NAME) {
            return invalid("at most 4096 metrics with names of at most 256 bytes");
        }
        let mut names: Vec<&String> = self.metrics.iter().collect();
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return invalid("metric names must be distinct");
        }
        self.encoding.width(u64::from(self.n_max))
    }

    /// Number of ring elements: values, weight, digits of the metrics.
    pub(crate) fn len(&self) -> Result<usize, SecAggError> {
        let too_large = SecAggError::InvalidPlan {
            reason: "vector does not fit this machine",
        };
        let digits = self.digits()?.count as usize * self.metrics.len();
        usize::try_from(self.dim)
            .map(|dim| dim + 1 + digits)
            .map_err(|_| too_large)
    }

    /// How metrics are cut into digits, for the largest cohort.
    pub(crate) fn digits(&self) -> Result<Digits, SecAggError> {
        self.encoding.digits(u64::from(self.n_max))
    }
}

/// A signed number as digits, the lowest first: all but the last below 2^bits and not negative, the last with the sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digits {
    pub bits: u32,
    pub count: u32,
}

impl Digits {
    pub(crate) fn split(self, value: i64) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |place| {
            let rest = value >> (self.bits * place).min(63);
            if place + 1 == self.count {
                rest
            } else {
                rest & ((1 << self.bits) - 1)
            }
        })
    }

    /// The number that sums of digits stand for, lowest first; `None` where it is none of 64 bits.
    pub(crate) fn join(self, digits: impl DoubleEndedIterator<Item = i64>) -> Option<i64> {
        let joined = digits.rev().try_fold(0i128, |high, digit| {
            let high = high.checked_mul(1 << self.bits)?;
            high.checked_add(i128::from(digit))
        })?;
        i64::try_from(joined).ok()
    }
}
