//! Counts of an evaluation as a mechanism: integer noise on each, exact and made here.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use aegis_noise::{Rng, discrete_gaussian};

use crate::error::PolicyError;

/// Noise multipliers of counts, in units of their joint sensitivity.
pub const Z: RangeInclusive<f64> = 0.05..=1e4;
/// Largest loss of a record, in thousandths.
pub const LOSS_CAP: RangeInclusive<u64> = 1..=1_000_000;

/// How the counts of one evaluation are noised.
///
/// One record adds at most 1 to `examples`, 1 to `correct`, the cap to `loss_milli`, and 1 to one bin of each histogram.
/// With each metric divided by what one record can add, the whole moves by at most √3 without histograms and √5 with
/// them. Each metric gets `N_Z(0, (z · √3 or √5 · scale)²)`, so the release is that of a Gaussian mechanism with noise
/// multiplier z on one query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountsNoise {
    /// Noise multiplier.
    pub z: f64,
    /// Largest loss of a record, in thousandths.
    pub loss_cap_milli: u64,
    /// Whether the two histograms are told; else their bins are zero.
    pub histograms: bool,
    /// A seed makes the noise repeatable, and worthless.
    pub seed: Option<u64>,
}

const HISTOGRAMS: [&str; 2] = ["confidence_", "confident_and_right_"];

impl CountsNoise {
    /// Refuses what the accountant is not trusted for.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if !Z.contains(&self.z) {
            return Err(PolicyError::bad(
                "the noise multiplier of counts must lie between 0.05 and 10 000",
            ));
        }
        if !LOSS_CAP.contains(&self.loss_cap_milli) {
            return Err(PolicyError::bad(
                "the largest loss of a record must lie between 0.001 and 1000",
            ));
        }
        Ok(())
    }

    /// What one record can add to a metric; `None` for a metric that is no count of an evaluation.
    fn scale(&self, name: &str) -> Option<u64> {
        match name {
            "examples" | "correct" => Some(1),
            "loss_milli" => Some(self.loss_cap_milli),
            _ if HISTOGRAMS.iter().any(|h| name.starts_with(h)) => Some(u64::from(self.histograms)),
            _ => None,
        }
    }

    /// Standard deviation of the noise on a metric.
    #[allow(clippy::cast_precision_loss)] // at most 10^6
    pub fn sigma(&self, name: &str) -> Option<f64> {
        let squares: f64 = if self.histograms { 5.0 } else { 3.0 };
        Some(self.z * squares.sqrt() * self.scale(name)? as f64)
    }

    /// Whether every metric is one of those above.
    pub(crate) fn covers(&self, metrics: &BTreeMap<String, i64>) -> bool {
        metrics.keys().all(|name| self.scale(name).is_some())
    }

    /// Bounds each metric by what `rows` records can add, and noises it. Zero rows are noised as well.
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
        for (name, value) in metrics {
            let scale = self.scale(name).unwrap_or(0);
            if scale == 0 {
                *value = 0;
                continue;
            }
            let most = i64::try_from(scale.saturating_mul(rows)).unwrap_or(i64::MAX);
            let noise =
                discrete_gaussian(&mut rng, self.sigma(name).unwrap_or(f64::NAN)).map_err(fault)?;
            *value = (*value).clamp(0, most).saturating_add(noise);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(histograms: bool) -> CountsNoise {
        CountsNoise {
            z: 2.0,
            loss_cap_milli: 10_000,
            histograms,
            seed: None,
        }
    }

    #[test]
    fn each_metric_has_the_noise_of_its_scale_and_of_the_joint_sensitivity() {
        let close = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
        for (histograms, squares) in [(false, 3.0_f64), (true, 5.0)] {
            let n = noise(histograms);
            assert!(close(n.sigma("examples"), 2.0 * squares.sqrt()));
            assert!(close(n.sigma("correct"), 2.0 * squares.sqrt()));
            assert!(close(n.sigma("loss_milli"), 20_000.0 * squares.sqrt()));
        }
        assert!(close(
            noise(true).sigma("confidence_3"),
            2.0 * 5.0_f64.sqrt()
        ));
        assert_eq!(noise(false).sigma("confidence_3"), Some(0.0));
        assert_eq!(noise(true).sigma("weight_of_patient_7"), None);
    }

    #[test]
    fn counts_are_bounded_before_the_noise_and_unbiased_after_it() {
        let asked: BTreeMap<String, i64> = [
            ("examples".to_owned(), 100),
            ("correct".to_owned(), i64::MAX),
            ("loss_milli".to_owned(), i64::MIN),
            ("confidence_0".to_owned(), 55),
        ]
        .into();
        let (mut sums, trials) = (BTreeMap::<String, f64>::new(), 2000);
        for _ in 0..trials {
            let mut counts = asked.clone();
            noise(false).apply(&mut counts, 100).unwrap();
            for (name, value) in counts {
                #[allow(clippy::cast_precision_loss)]
                let value = value as f64;
                *sums.entry(name).or_default() += value / f64::from(trials);
            }
        }
        for (name, mean) in [("examples", 100.0), ("correct", 100.0), ("loss_milli", 0.0)] {
            let sd = noise(false).sigma(name).unwrap() / f64::from(trials).sqrt();
            assert!(
                (sums[name] - mean).abs() < 5.5 * sd,
                "{name}: {}",
                sums[name]
            );
        }
        assert!(
            sums["confidence_0"].abs() < 1e-9,
            "a histogram that was not declared tells nothing"
        );
    }
}
