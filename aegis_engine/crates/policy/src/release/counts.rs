//! Counts of an evaluation as a mechanism: integer noise on each, exact and made here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use aegis_noise::{Rng, discrete_gaussian};

use crate::error::PolicyError;

/// Noise multipliers of counts, in units of their joint sensitivity.
pub const Z: RangeInclusive<f64> = 0.05..=1e4;
/// What one record may add to a metric at most.
pub const CAP: RangeInclusive<u64> = 1..=(1 << 31) - 1;
/// Most blocks of an evaluation.
pub const BLOCKS_MAX: usize = 64;
/// Most metrics of all blocks together: as many as a masked sum takes.
pub const NAMES_MAX: usize = 4096;
/// Longest name of a metric, in bytes.
const NAME_MAX: usize = 64;

/// A declared statistic: integer metrics of which one record changes at most one, by at most the cap.
///
/// A bounded sum is a block of one name. The bins of a histogram and the cells of a confusion table are blocks of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What one record adds at most.
    pub cap: u64,
    /// The metrics it is made of.
    pub names: Vec<String>,
}

/// How the counts of one evaluation are noised.
///
/// With each metric divided by its cap, one record moves each block by at most 1, so the whole by at most √(number of
/// blocks). Each metric gets `N_Z(0, (z · √blocks · cap)²)`, so the release is that of a Gaussian mechanism with noise
/// multiplier z on one query.
#[derive(Debug, Clone, PartialEq)]
pub struct CountsNoise {
    /// Noise multiplier.
    pub z: f64,
    /// All that is told; a metric in none of them is zero.
    pub blocks: Vec<Block>,
    /// A seed makes the noise repeatable, and worthless.
    pub seed: Option<u64>,
}

/// A name that reads the same for everybody: letters, digits and a few signs of ASCII.
fn plain(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.@:".contains(&b))
}

impl CountsNoise {
    /// Refuses what the accountant is not trusted for.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if !Z.contains(&self.z) {
            return Err(PolicyError::bad(
                "the noise multiplier of counts must lie between 0.05 and 10 000",
            ));
        }
        if !(1..=BLOCKS_MAX).contains(&self.blocks.len()) {
            return Err(PolicyError::bad(
                "an evaluation tells 1 to 64 blocks of metrics",
            ));
        }
        let mut names = BTreeSet::new();
        for block in &self.blocks {
            if !CAP.contains(&block.cap) {
                return Err(PolicyError::bad(
                    "what a record may add to a metric must lie between 1 and 2147483647",
                ));
            }
            if block.names.is_empty() {
                return Err(PolicyError::bad("a block of metrics names at least one"));
            }
            for name in &block.names {
                if !plain(name) {
                    return Err(PolicyError::bad(
                        "a metric's name has 1 to 64 letters, digits or signs of _-.@:",
                    ));
                }
                // Named twice, it would move by more than its cap.
                if !names.insert(name) {
                    return Err(PolicyError::bad("a metric is in one block, once"));
                }
            }
        }
        if names.len() > NAMES_MAX {
            return Err(PolicyError::bad("an evaluation tells at most 4096 metrics"));
        }
        Ok(())
    }

    /// Standard deviation of the noise on a metric that one record moves by at most `cap`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most 64 blocks, and caps below 2^31"
    )]
    fn sigma(&self, cap: u64) -> f64 {
        self.z * (self.blocks.len() as f64).sqrt() * cap as f64
    }

    /// Whether every metric that tells something is in a block.
    pub(crate) fn covers(&self, metrics: &BTreeMap<String, i64>) -> bool {
        let caps = self.caps();
        metrics
            .iter()
            .all(|(name, value)| *value == 0 || caps.contains_key(name.as_str()))
    }

    /// The cap of each metric of a block.
    fn caps(&self) -> BTreeMap<&str, u64> {
        self.blocks
            .iter()
            .flat_map(|block| block.names.iter().map(|name| (name.as_str(), block.cap)))
            .collect()
    }

    /// Bounds each metric by what `rows` records can add, and noises it. Zero rows are noised as well; what is in no block
    /// is zero, and a metric of a block that was not counted is zero before its noise.
    pub(crate) fn apply(
        &self,
        metrics: &mut BTreeMap<String, i64>,
        rows: u64,
    ) -> Result<(), PolicyError> {
        let fault = |e: aegis_noise::NoiseError| PolicyError::bad(e.to_string());
        let mut rng = match self.seed {
            None => Rng::from_os().map_err(fault)?,
            Some(seed) => Rng::insecure_test(seed),
        };
        let caps = self.caps();
        for (name, value) in metrics {
            let Some(&cap) = caps.get(name.as_str()) else {
                *value = 0;
                continue;
            };
            let most = i64::try_from(cap.saturating_mul(rows)).unwrap_or(i64::MAX);
            let noise = discrete_gaussian(&mut rng, self.sigma(cap)).map_err(fault)?;
            *value = (*value).clamp(0, most).saturating_add(noise);
        }
        Ok(())
    }

    /// What one record can add to a metric; `None` for one that is in no block.
    pub(crate) fn cap(&self, name: &str) -> Option<u64> {
        self.caps().get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cap: u64, names: &[&str]) -> Block {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Block { cap, names }
    }

    fn noise(more: &[Block]) -> CountsNoise {
        let mut blocks = vec![
            block(1, &["examples"]),
            block(1, &["correct"]),
            block(10_000, &["loss_milli"]),
        ];
        blocks.extend_from_slice(more);
        CountsNoise {
            z: 2.0,
            blocks,
            seed: None,
        }
    }

    fn histogram(name: &str) -> Block {
        let names = (0..10).map(|i| format!("{name}_{i}")).collect();
        Block { cap: 1, names }
    }

    #[test]
    fn each_metric_has_the_noise_of_its_scale_and_of_the_joint_sensitivity() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let both = [histogram("confidence"), histogram("confident_and_right")];
        for (more, squares) in [(&both[..0], 3.0_f64), (&both[..], 5.0)] {
            let n = noise(more);
            assert!(close(n.sigma(1), 2.0 * squares.sqrt()));
            assert!(close(n.sigma(10_000), 20_000.0 * squares.sqrt()));
        }
        assert_eq!(noise(&both).cap("confidence_3"), Some(1));
        assert_eq!(noise(&both).cap("loss_milli"), Some(10_000));
        assert_eq!(noise(&[]).cap("confidence_3"), None);
    }

    #[test]
    fn counts_are_bounded_before_the_noise_and_unbiased_after_it() {
        let asked: BTreeMap<String, i64> = [
            ("examples".to_owned(), 100),
            ("correct".to_owned(), i64::MAX),
            ("loss_milli".to_owned(), i64::MIN),
            ("confidence_0".to_owned(), 55),
            ("bin_1".to_owned(), 100),
        ]
        .into();
        let told = noise(&[block(7, &["bin_0", "bin_1"])]);
        let (mut sums, trials) = (BTreeMap::<String, f64>::new(), 2000);
        let mut squares = 0.0;
        for _ in 0..trials {
            let mut counts = asked.clone();
            told.apply(&mut counts, 100).unwrap();
            for (name, value) in counts {
                #[allow(clippy::cast_precision_loss)]
                let value = value as f64;
                if name == "bin_1" {
                    squares += (value - 100.0).powi(2) / f64::from(trials);
                }
                *sums.entry(name).or_default() += value / f64::from(trials);
            }
        }
        for (name, mean) in [
            ("examples", 100.0),
            ("correct", 100.0),
            ("loss_milli", 0.0),
            ("bin_1", 100.0),
        ] {
            let sd = told.sigma(told.cap(name).unwrap()) / f64::from(trials).sqrt();
            assert!(
                (sums[name] - mean).abs() < 5.5 * sd,
                "{name}: {}",
                sums[name]
            );
        }
        // Four blocks, so the variance is that of z · √4 · 7; of 2000 draws it is known to 3 %.
        let variance = (2.0_f64 * 2.0 * 7.0).powi(2);
        assert!((squares / variance - 1.0).abs() < 0.18, "{squares}");
        assert!(
            sums["confidence_0"].abs() < 1e-9,
            "a metric that was not declared tells nothing"
        );
    }

    #[test]
    fn a_declaration_that_means_nothing_is_refused() {
        noise(&[]).check().unwrap();
        let many = |n: usize| Block {
            cap: 1,
            names: (0..n).map(|i| format!("m{i}")).collect(),
        };
        noise(&[many(NAMES_MAX - 3)]).check().unwrap();
        let bad = [
            vec![block(0, &["a"])],
            vec![block(1 << 31, &["a"])],
            vec![block(1, &[])],
            vec![block(1, &["a", "a"])],
            vec![block(1, &["a"]), block(1, &["a"])],
            vec![block(1, &["correct"])],
            vec![block(1, &[""])],
            vec![block(1, &["Frau Müller"])],
            vec![block(1, &["a b"])],
            vec![block(1, &["a".repeat(65).as_str()])],
            vec![many(NAMES_MAX - 2)],
            (0..62)
                .map(|i| block(1, &[format!("m{i}").as_str()]))
                .collect(),
        ];
        for more in bad {
            assert!(noise(&more).check().is_err(), "{more:?}");
        }
        let nothing = CountsNoise {
            blocks: Vec::new(),
            ..noise(&[])
        };
        assert!(nothing.check().is_err());
    }

    #[test]
    fn what_tells_something_is_declared() {
        let told = |name: &str, value| noise(&[]).covers(&[(name.to_owned(), value)].into());
        assert!(told("correct", 3) && told("confidence_0", 0));
        assert!(!told("confidence_0", 1) && !told("weight_of_patient_7", -1));
    }
}
