//! Goodness of fit. Seeded, so that a failure repeats; one test draws from the operating system, and fails by chance
//! once in a million runs.

#![allow(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "statistics of small counts; grids are exact"
)]

use aegis_noise::{Plan, Rng, Session, add_gaussian, gaussian, grid, poisson_rows};

const N: usize = 200_000;
/// Two-sided quantile of the normal distribution at alpha 1e-6.
const Z: f64 = 4.892;

fn noise(rng: &mut Rng, n: usize, sigma: f64) -> Vec<f64> {
    let mut out = vec![f32::NAN; n];
    gaussian(rng, &mut out, sigma).unwrap();
    out.into_iter().map(f64::from).collect()
}

/// CDF of the normal distribution by its series (Marsaglia 2004, "Evaluating the normal distribution").
fn cdf(x: f64) -> f64 {
    if x.abs() > 7.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut term, mut i) = (x, x, 1.0);
    while sum + term != sum {
        i += 2.0;
        term *= x * x / i;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

/// Largest distance between the empirical CDF and the normal one (Kolmogorov-Smirnov).
fn ks(samples: &[f64], sigma: f64) -> f64 {
    let mut sorted: Vec<_> = samples.iter().map(|x| x / sigma).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance = |(i, x): (usize, &f64)| {
        (cdf(*x) - i as f64 / n)
            .abs()
            .max(((i + 1) as f64 / n - cdf(*x)).abs())
    };
    sorted.iter().enumerate().map(distance).fold(0.0, f64::max)
}

fn assert_normal(samples: &[f64], sigma: f64) {
    let n = samples.len() as f64;
    let moment = |k| samples.iter().map(|x| (x / sigma).powi(k)).sum::<f64>() / n;
    assert!(moment(1).abs() < Z / n.sqrt(), "mean {}", moment(1));
    assert!(
        (moment(2) - 1.0).abs() < Z * (2.0 / n).sqrt(),
        "variance {}",
        moment(2)
    );
    assert!(
        moment(3).abs() < Z * (15.0 / n).sqrt(),
        "skew {}",
        moment(3)
    );
    assert!(
        (moment(4) - 3.0).abs() < Z * (96.0 / n).sqrt(),
        "kurtosis {}",
        moment(4)
    );
    // P(D > d) <= 2 exp(-2 n d²) (Massart 1990), at alpha 1e-6.
    let critical = ((2.0 / 1e-6_f64).ln() / (2.0 * n)).sqrt();
    assert!(
        ks(samples, sigma) < critical,
        "KS distance {} against {critical}",
        ks(samples, sigma)
    );
}

#[test]
fn the_reference_cdf_is_right_and_the_test_has_teeth() {
    for (x, p) in [
        (0.0, 0.5),
        (1.0, 0.841_344_746_068_542_9),
        (-1.959_963_984_540_054, 0.025),
        (4.0, 0.999_968_328_758_166_9),
    ] {
        assert!((cdf(x) - p).abs() < 1e-14, "{x}");
    }
    let samples = noise(&mut Rng::insecure_test(1), N, 1.0);
    for wrong in [0.98, 1.02] {
        assert!(std::panic::catch_unwind(|| assert_normal(&samples, wrong)).is_err());
    }
    // Uniform with the same variance: only the shape is wrong.
    let uniform: Vec<_> = (0..N)
        .map(|i| ((i as f64 + 0.5) / N as f64 - 0.5) * 12.0_f64.sqrt())
        .collect();
    assert!(ks(&uniform, 1.0) > 0.05);
}

#[test]
fn noise_is_normal_for_every_sigma() {
    for (seed, sigma) in [1e-20, 1e-3, 0.7, 1.0, 1.999, 4.0, 1e6, 1e20]
        .into_iter()
        .enumerate()
    {
        assert_normal(
            &noise(&mut Rng::insecure_test(seed as u64), N, sigma),
            sigma,
        );
    }
}

#[test]
fn noise_of_the_system_is_normal() {
    assert_normal(&noise(&mut Rng::from_os().unwrap(), N, 1.3), 1.3);
}

#[test]
fn the_tails_are_there() {
    let samples = noise(&mut Rng::insecure_test(3), 4_000_000, 1.0);
    let n = samples.len() as f64;
    // 3.654 is where the ziggurat changes to its tail.
    for at in [3.0, 3.654, 4.0, 4.5] {
        let expected = 2.0 * n * (1.0 - cdf(at));
        let found = samples.iter().filter(|x| x.abs() > at).count() as f64;
        assert!(
            (found - expected).abs() < Z * expected.sqrt() + 1.0,
            "beyond {at}: {found}, expected {expected}"
        );
    }
}

#[test]
fn every_sample_is_a_multiple_of_the_grid_and_no_coarser_one() {
    for sigma in [1e-30, 0.01, 1.0, 1.999, 3.0, 1e30] {
        let grid = grid(sigma).unwrap();
        let steps: Vec<_> = noise(&mut Rng::insecure_test(4), 10_000, sigma)
            .iter()
            .map(|x| x / grid)
            .collect();
        assert!(steps.iter().all(|steps| steps.fract() == 0.0), "{sigma}");
        let odd = steps
            .iter()
            .filter(|steps| steps.rem_euclid(2.0) == 1.0)
            .count() as f64;
        assert!(
            (odd - 5_000.0).abs() < Z * 50.0,
            "{odd} odd multiples of {grid}"
        );
    }
}

#[test]
fn sums_with_noise_are_on_the_grid_and_centred_on_the_values() {
    let sigma = 0.3;
    // Far below sigma, where f32 is finer than the grid: on the grid is what was put there.
    let values: Vec<f32> = (0..N).map(|i| (i as f32).sin() * 1e-7 + 1e-3).collect();
    let mut sums = values.clone();
    add_gaussian(&mut Rng::insecure_test(5), &mut sums, sigma).unwrap();
    let grid = grid(sigma).unwrap();
    assert!(
        sums.iter()
            .all(|sum| (f64::from(*sum) / grid).fract() == 0.0)
    );
    let noise: Vec<_> = sums
        .iter()
        .zip(&values)
        .map(|(sum, value)| f64::from(*sum) - f64::from(*value))
        .collect();
    assert_normal(&noise, sigma);
    let mut odd = [f32::NAN, f32::INFINITY, f32::MAX];
    add_gaussian(&mut Rng::insecure_test(5), &mut odd, sigma).unwrap();
    assert!(
        odd[0].is_nan() && odd[1] == f32::INFINITY && odd[2] == f32::MAX,
        "what is broken stays visible to the gates"
    );
}

/// A value that is rounded before its noise moves by a whole step of the grid, or by none: its sensitivity is no longer its own.
#[test]
fn it_is_the_sum_that_is_rounded_and_never_the_value() {
    let grid = grid(1.0).unwrap();
    for part in [0.25, 0.4, 0.75] {
        let sums = |value: f32| {
            let mut values = vec![value; N];
            add_gaussian(&mut Rng::insecure_test(11), &mut values, 1.0).unwrap();
            values
        };
        #[allow(clippy::cast_possible_truncation)]
        let (zero, moved) = (sums(0.0), sums((part * grid) as f32));
        let steps: Vec<_> = zero
            .iter()
            .zip(&moved)
            .map(|(a, b)| (f64::from(*b) - f64::from(*a)) / grid)
            .collect();
        assert!(steps.iter().all(|step| *step == 0.0 || *step == 1.0));
        let mean = steps.iter().sum::<f64>() / N as f64;
        let sd = (part * (1.0 - part) / N as f64).sqrt();
        assert!((mean - part).abs() < Z * sd, "{mean} for {part}");
    }
}

/// The noised sum of one step of a seeded session.
fn step(seed: u64, sums: &[f64], sigma: f64, clip: f64) -> Vec<f64> {
    let plan = Plan {
        sigma,
        clip,
        rate: 0.5,
        steps: 1,
        expected_batch: 1.0,
        dim: sums.len() as u64,
        rows: 1,
        blocks: 0,
    };
    let mut session = Session::insecure_test(plan, seed).unwrap();
    session.draw().unwrap();
    session
        .noise(sums)
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect()
}

#[test]
fn what_a_session_gives_is_the_sum_with_normal_noise_on_the_grid() {
    let (sigma, clip) = (1.5, 0.2);
    let grid = grid(sigma * clip).unwrap();
    // Far below the noise, where f32 is finer than the grid: on the grid is what was put there.
    let sums: Vec<f64> = (0..N).map(|i| (i as f64).sin() * 1e-7 + 1e-3).collect();
    let noised = step(21, &sums, sigma, clip);
    assert!(noised.iter().all(|sum| (sum / grid).fract() == 0.0));
    let noise: Vec<_> = noised.iter().zip(&sums).map(|(a, b)| a - b).collect();
    assert_normal(&noise, sigma * clip);
}

#[test]
fn a_session_rounds_the_sum_with_its_noise_and_never_the_sum_before() {
    let grid = grid(1.0).unwrap();
    for part in [0.25, 0.4, 0.75] {
        let (zero, moved) = (
            step(22, &vec![0.0; N], 1.0, 1.0),
            step(22, &vec![part * grid; N], 1.0, 1.0),
        );
        let steps: Vec<_> = zero
            .iter()
            .zip(&moved)
            .map(|(a, b)| (b - a) / grid)
            .collect();
        assert!(steps.iter().all(|step| *step == 0.0 || *step == 1.0));
        let mean = steps.iter().sum::<f64>() / N as f64;
        let sd = (part * (1.0 - part) / N as f64).sqrt();
        assert!((mean - part).abs() < Z * sd, "{mean} for {part}");
    }
}

#[test]
fn a_session_draws_each_row_with_its_rate() {
    for rate in [0.01, 0.3, 0.9] {
        let plan = Plan {
            sigma: 1.0,
            clip: 1.0,
            rate,
            steps: 1,
            expected_batch: 1.0,
            dim: 1,
            rows: N as u64,
            blocks: 0,
        };
        let drawn = Session::new(plan).unwrap().draw().unwrap().len() as f64;
        let (n, sd) = (N as f64, (N as f64 * rate * (1.0 - rate)).sqrt());
        assert!(
            (drawn - n * rate).abs() < Z * sd,
            "{drawn} of {N} at {rate}"
        );
    }
}

#[test]
fn noise_in_a_long_vector_never_comes_again() {
    let samples = noise(&mut Rng::from_os().unwrap(), 1 << 21, 1.0);
    let n = samples.len();
    for lag in (0..21).map(|k| 1_usize << k) {
        let z = samples[..n - lag]
            .iter()
            .zip(&samples[lag..])
            .map(|(a, b)| a * b)
            .sum::<f64>()
            / ((n - lag) as f64).sqrt();
        assert!(z.abs() < 5.5, "lag {lag}: {z} standard errors");
    }
    assert_normal(&samples[n - N..], 1.0);
}

#[test]
fn samples_calls_and_generators_are_independent() {
    let mut rng = Rng::insecure_test(6);
    let (first, second) = (noise(&mut rng, N, 1.0), noise(&mut rng, N, 1.0));
    let other = noise(&mut Rng::insecure_test(7), N, 1.0);
    let correlation = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / (a.len().min(b.len()) as f64).sqrt()
    };
    for (name, z) in [
        ("two calls", correlation(&first, &second)),
        ("two generators", correlation(&first, &other)),
        ("neighbours", correlation(&first, &first[1..])),
        ("every second", correlation(&first, &first[2..])),
        ("a ChaCha buffer apart", correlation(&first, &first[32..])),
    ] {
        assert!(z.abs() < Z, "{name}: {z} standard errors");
    }
    let squares = |samples: &[f64]| {
        samples
            .iter()
            .map(|x| (x * x - 1.0) / 2.0_f64.sqrt())
            .collect::<Vec<_>>()
    };
    let (first, second) = (squares(&first), squares(&second));
    assert!(
        correlation(&first, &first[1..]).abs() < Z && correlation(&first, &second).abs() < Z,
        "magnitudes"
    );
}

#[test]
fn one_long_draw_equals_many_short_ones() {
    let long = noise(&mut Rng::insecure_test(8), 1_000, 2.0);
    let mut rng = Rng::insecure_test(8);
    let short: Vec<_> = (0..100).flat_map(|_| noise(&mut rng, 10, 2.0)).collect();
    assert_eq!(
        long, short,
        "where a tensor is split does not change what is drawn"
    );
}

#[test]
fn every_row_is_included_with_the_same_probability() {
    let (rows, trials) = (100_u64, 40_000);
    for (seed, q) in [0.01, 0.25, 0.9].into_iter().enumerate() {
        let mut rng = Rng::insecure_test(seed as u64);
        let mut included = vec![0_u32; 100];
        let mut pairs = 0_u32;
        let (mut size, mut size_squared) = (0.0, 0.0);
        for _ in 0..trials {
            let batch = poisson_rows(&mut rng, rows, q).unwrap();
            assert!(
                batch.is_sorted_by(|a, b| a < b) && batch.iter().all(|row| u64::from(*row) < rows)
            );
            for row in &batch {
                included[*row as usize] += 1;
            }
            pairs += u32::from(batch.contains(&40) && batch.contains(&41));
            let n = batch.len() as f64;
            size += n;
            size_squared += n * n;
        }
        let trials = f64::from(trials);
        let z = |count: f64, p: f64| (count - trials * p) / (trials * p * (1.0 - p)).sqrt();
        for (row, count) in included.iter().enumerate() {
            // 300 counts are looked at: Bonferroni asks for 1e-6/300, which is 5.9.
            assert!(
                z(f64::from(*count), q).abs() < 5.9,
                "row {row}: {count} of {trials}, q {q}"
            );
        }
        assert!(
            z(f64::from(pairs), q * q).abs() < Z + 0.5,
            "two rows together: {pairs}"
        );
        // Binomial(n, q) has this variance; a batch of fixed size has none.
        let (mean, variance) = (
            size / trials,
            size_squared / trials - (size / trials).powi(2),
        );
        let expected = 100.0 * q * (1.0 - q);
        assert!(
            (mean - 100.0 * q).abs() < Z * (expected / trials).sqrt(),
            "mean {mean}"
        );
        assert!(
            (variance / expected - 1.0).abs() < Z * (3.0 / trials).sqrt(),
            "variance {variance}, expected {expected}"
        );
    }
}

#[test]
fn the_edges_of_poisson_sampling_are_exact() {
    let mut rng = Rng::from_os().unwrap();
    assert_eq!(poisson_rows(&mut rng, 10_000, 0.0).unwrap(), []);
    assert_eq!(
        poisson_rows(&mut rng, 10_000, 1.0).unwrap(),
        (0..10_000).collect::<Vec<_>>()
    );
    assert_eq!(poisson_rows(&mut rng, 0, 0.5).unwrap(), []);
    assert_eq!(
        poisson_rows(&mut rng, 10_000, f64::MIN_POSITIVE).unwrap(),
        []
    );
    assert_ne!(
        poisson_rows(&mut rng, 10_000, 0.5).unwrap(),
        poisson_rows(&mut rng, 10_000, 0.5).unwrap()
    );
}
