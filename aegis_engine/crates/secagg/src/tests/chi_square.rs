//! Chi-square tests with critical values at alpha = 1e-6.

use std::collections::BTreeMap;

/// Upper 1e-6 point of the normal distribution.
const Z: f64 = 4.7534;
/// Its two-sided counterpart: the 5e-7 point.
pub(super) const Z_TWO_SIDED: f64 = 4.8916;

/// Upper critical value of chi-square with `df` degrees of freedom at alpha = 1e-6 (Wilson and Hilferty 1931).
pub(super) fn critical(df: usize) -> f64 {
    let df = float(df);
    let spread = 2.0 / (9.0 * df);
    df * (1.0 - spread + Z * spread.sqrt()).powi(3)
}

/// Pearson's statistic of counts that should be equal.
pub(super) fn uniform(counts: &[usize]) -> f64 {
    let expected = float(counts.iter().sum()) / float(counts.len());
    let term = |count: &usize| (float(*count) - expected).powi(2) / expected;
    counts.iter().map(term).sum()
}

/// Pearson's statistic of homogeneity of two samples, and its degrees of freedom. Values that came fewer than ten times in both
/// together are one class, where the approximation would not hold.
pub(super) fn homogeneity(one: &[u8], other: &[u8]) -> (f64, usize) {
    let mut counts: BTreeMap<u8, [usize; 2]> = BTreeMap::new();
    for (side, bytes) in [one, other].into_iter().enumerate() {
        for byte in bytes {
            counts.entry(*byte).or_default()[side] += 1;
        }
    }
    let (common, rare): (Vec<_>, Vec<_>) = counts
        .into_values()
        .partition(|both| both.iter().sum::<usize>() >= 10);
    let rare = rare.iter().fold([0, 0], |[a, b], [x, y]| [a + x, b + y]);
    let classes: Vec<[usize; 2]> = common
        .into_iter()
        .chain([rare])
        .filter(|both| *both != [0, 0])
        .collect();
    let share = float(one.len()) / float(one.len() + other.len());
    let term = |both: &[usize; 2]| -> f64 {
        let all = float(both[0] + both[1]);
        let term = |found: usize, expected: f64| (float(found) - expected).powi(2) / expected;
        term(both[0], all * share) + term(both[1], all * (1.0 - share))
    };
    (classes.iter().map(term).sum(), classes.len().max(2) - 1)
}

#[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
pub(super) fn float(count: usize) -> f64 {
    count as f64
}

#[test]
fn critical_values_are_those_of_tables() {
    // scipy.stats.chi2.isf(1e-6, df)
    for (df, exact) in [(31, 83.64), (63, 131.4), (255, 377.1)] {
        assert!(
            (critical(df) / exact - 1.0).abs() < 0.01,
            "{df}: {}",
            critical(df)
        );
    }
}

#[test]
fn homogeneity_sees_a_small_shift_and_accepts_equal_sources() {
    // a small generator: 50 000 bytes each
    let mut state = 1u64;
    let mut draw = |shift: u8| -> Vec<u8> {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..50_000)
            .map(|_| next() / 2 + shift * (next() / 128))
            .collect()
    };
    let (one, other, shifted) = (draw(0), draw(0), draw(1));
    let (found, df) = homogeneity(&one, &other);
    assert!(found < critical(df));
    let (found, df) = homogeneity(&one, &shifted);
    assert!(found > critical(df));
}
