//! Who shared and whose masked input arrived: two bitmaps over the cohort.

use crate::error::SecAggError;
use crate::wire::{Reader, Writer};

/// The outcome of a round's first steps, as all clients of a cohort must see it alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sets {
    n: u32,
    shared: Vec<u8>,
    survivors: Vec<u8>,
}

fn has(bits: &[u8], index: u32) -> bool {
    bits.get(index as usize / 8)
        .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

impl Sets {
    /// From predicates over places in the cohort.
    pub(crate) fn new(
        n: u32,
        shared: impl Fn(u32) -> bool,
        survived: impl Fn(u32) -> bool,
    ) -> Self {
        let bits = |is: &dyn Fn(u32) -> bool| {
            let mut bits = vec![0; (n as usize).div_ceil(8)];
            for index in (0..n).filter(|index| is(*index)) {
                bits[index as usize / 8] |= 1 << (index % 8);
            }
            bits
        };
        Self {
            n,
            shared: bits(&shared),
            survivors: bits(&survived),
        }
    }

    pub(crate) fn cohort(&self) -> u32 {
        self.n
    }

    pub(crate) fn shared(&self, index: u32) -> bool {
        has(&self.shared, index)
    }

    pub(crate) fn survived(&self, index: u32) -> bool {
        has(&self.survivors, index)
    }

    pub(crate) fn survivors(&self) -> u32 {
        self.survivors.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Nobody survived without having shared.
    pub(crate) fn nested(&self) -> bool {
        self.survivors
            .iter()
            .zip(&self.shared)
            .all(|(a, b)| a & !b == 0)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .u32(self.n)
            .bytes(&self.shared)
            .bytes(&self.survivors);
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, SecAggError> {
        let n = reader.u32()?;
        let len = (n as usize).div_ceil(8);
        let (shared, survivors) = (reader.slice(len)?.to_vec(), reader.slice(len)?.to_vec());
        let beyond =
            |bits: &[u8]| n % 8 != 0 && bits.last().is_some_and(|byte| byte >> (n % 8) != 0);
        if beyond(&shared) || beyond(&survivors) {
            return Err(reader.bad("a bit is set beyond the cohort"));
        }
        Ok(Self {
            n,
            shared,
            survivors,
        })
    }
}
