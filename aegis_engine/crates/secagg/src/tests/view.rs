//! Everything a server and t - 1 colluding clients hold about one client, over many runs: uniform where it should be, and
//! alike whatever the client sends. With one colluder more the same tests fail, and the client is read.
//!
//! The server here follows the protocol and keeps what it sees (`split_views` has one that does not). All honest inputs
//! together have the same sum in both groups: the sum is what the protocol gives away.
//!
//! Each comparison fails by chance with probability 1e-6; there are fewer than 250, so the chance that an honest build fails
//! is below 2.5e-4 (Bonferroni). A test can find an error; it proves nothing.

use std::collections::BTreeMap;

use super::chi_square::{Z_TWO_SIDED, critical, float, homogeneity, uniform};
use super::coalition::Coalition;
use super::plan;
use crate::message::Advert;
use crate::{Plan, encode, threshold};

const N: usize = 7;
const VICTIM: usize = 1;
const DIM: usize = 1024;
const RUNS: usize = 80;

/// Every value at the clip, so that nothing the client could send is further from zeros.
fn at_clip() -> Vec<f32> {
    (0..DIM)
        .map(|i| if i % 3 == 0 { -1.0 } else { 1.0 })
        .collect()
}

/// What the coalition holds of the victim, over all runs of a group: for each part its bytes, and the length of the items
/// that repeat in it, whose byte places are compared one by one.
struct View {
    parts: BTreeMap<&'static str, (usize, Vec<u8>)>,
    /// The masked vectors, with every mask off that the coalition can compute.
    residuals: Vec<i64>,
    /// Limbs of the shares it held before the unmask step.
    limbs: [Vec<u64>; 2],
    /// Masks that are left on each vector.
    left: usize,
}

impl View {
    fn add(&mut self, part: &'static str, item: usize, bytes: &[u8]) {
        let (_, kept) = self.parts.entry(part).or_insert((item, Vec::new()));
        kept.extend_from_slice(bytes);
    }

    /// One run in which the victim sends `mine` and the first honest client `other`.
    fn watch(&mut self, c: usize, plan: &Plan, mine: &[f32], other: &[f32]) {
        let mut run = Coalition::begin(N as u64, c, plan, false);
        let advert = run.cohort.clients[&run.ids[VICTIM]].advertise().unwrap();
        let advert = Advert::from_bytes(&advert).unwrap().1;
        let keys = [&advert.identity[..], &advert.channel, &advert.signature].concat();
        self.add("advert", keys.len(), &keys);
        let (key, sealed) = run.sealed_for_the_honest(VICTIM);
        self.add("round key", key.len(), &key);
        self.add("sealed shares", sealed.len() / (N - 1 - c).max(1), &sealed);
        for (kind, held) in run.held(VICTIM).into_iter().enumerate() {
            assert_eq!(held.len(), c);
            for share in held {
                let bytes = share.to_bytes();
                self.add(["seed shares", "secret shares"][kind], 8, &bytes[..]);
                let limbs = bytes.as_chunks::<8>().0.iter();
                self.limbs[kind].extend(limbs.map(|limb| u64::from_le_bytes(*limb)));
            }
        }
        let all: Vec<usize> = (0..N).collect();
        let zeros = vec![0.0; DIM];
        let mut vector = Vec::new();
        for place in 0..N {
            let update = match place {
                VICTIM => mine,
                0 => other,
                _ => &zeros,
            };
            let found = run.mask(place, &all, update).unwrap();
            if place == VICTIM {
                vector = found;
            }
        }
        let width = plan.width().unwrap().bytes();
        self.add("masked vector", width, &vector);
        let sets = run.sets(&all, &[]);
        for place in 0..N {
            run.unmask(place, &sets, &BTreeMap::new()).unwrap();
        }
        for share in run.given_by(VICTIM) {
            self.add("unmask reply", 8, &share.to_bytes()[..]);
        }
        let stripped = run.strip(VICTIM, &all, &vector);
        self.left = stripped.left;
        let packed = stripped.lanes.iter();
        let packed: Vec<u8> = packed
            .flat_map(|x| x.to_le_bytes()[..width].to_vec())
            .collect();
        self.add("stripped vector", width, &packed[..DIM * width]);
        self.residuals.extend(&stripped.lanes[..DIM]);
    }

    fn group(c: usize, mine: &[f32], other: &[f32]) -> Self {
        let mut view = Self {
            parts: BTreeMap::new(),
            residuals: Vec::new(),
            limbs: [Vec::new(), Vec::new()],
            left: 0,
        };
        for _ in 0..RUNS {
            view.watch(c, &view_plan(), mine, other);
        }
        view
    }

    fn place(&self, part: &str, place: usize) -> Vec<u8> {
        let (item, bytes) = &self.parts[part];
        bytes.iter().copied().skip(place).step_by(*item).collect()
    }

    /// Correlation of what is left with an update that is known, in standard deviations: normal where it is uniform.
    #[expect(
        clippy::cast_precision_loss,
        reason = "ring elements here have 32 bits"
    )]
    fn correlation(&self, update: &[f32]) -> f64 {
        let pairs = || self.residuals.iter().zip(update.iter().cycle());
        let dot: f64 = pairs().map(|(r, x)| *r as f64 * f64::from(*x)).sum();
        let power = |value: fn((&i64, &f32)) -> f64| -> f64 { pairs().map(value).sum() };
        let residual = power(|(r, _)| (*r as f64).powi(2));
        let known = power(|(_, x)| f64::from(*x).powi(2));
        dot / (residual * known).sqrt() * float(self.residuals.len()).sqrt()
    }
}

fn view_plan() -> Plan {
    plan(DIM as u64, &[])
}

/// Two groups of runs that differ in who of two honest clients sends zeros and who values at the clip.
fn groups(c: usize) -> [View; 2] {
    let (zeros, full) = (vec![0.0; DIM], at_clip());
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| View::group(c, &zeros, &full));
        (View::group(c, &full, &zeros), one.join().unwrap())
    });
    [other, one]
}

#[test]
fn the_view_of_a_server_and_one_colluder_less_than_the_threshold_is_uniform_and_tells_no_updates_apart()
 {
    let colluders = threshold(u32::try_from(N).unwrap()) as usize - 1;
    let [zeros, full] = groups(colluders);
    let width = view_plan().width().unwrap().bytes();
    let mut tests = 0;
    for view in [&zeros, &full] {
        // the pair masks with the honest others, whose secrets no t - 1 shares give
        assert_eq!(view.left, N - 1 - colluders);
        for part in ["masked vector", "stripped vector"] {
            for place in 0..width {
                let mut counts = [0; 256];
                for byte in view.place(part, place) {
                    counts[usize::from(byte)] += 1;
                }
                let found = uniform(&counts);
                assert!(found < critical(255), "{part}, byte {place}: {found}");
                tests += 1;
            }
        }
        // the shares held of each secret are uniform field elements: by their high and by their low bits
        for limbs in &view.limbs {
            assert_eq!(limbs.len(), RUNS * colluders * 5);
            for shift in [55, 0] {
                let mut counts = [0; 64];
                for limb in limbs {
                    counts[usize::try_from(limb >> shift & 63).unwrap()] += 1;
                }
                let found = uniform(&counts);
                assert!(found < critical(63), "shares, bits from {shift}: {found}");
                tests += 1;
            }
        }
        let found = view.correlation(&at_clip());
        assert!(found.abs() < Z_TWO_SIDED, "correlation {found}");
        tests += 1;
    }
    for (part, (item, _)) in &zeros.parts {
        // items that come a few times in a run are compared as one, so that each byte value is frequent enough
        let pooled = zeros.parts[part].1.len() / item < 2000;
        for place in 0..if pooled { 1 } else { *item } {
            let bytes = |view: &View| {
                if pooled {
                    view.parts[part].1.clone()
                } else {
                    view.place(part, place)
                }
            };
            let (found, df) = homogeneity(&bytes(&zeros), &bytes(&full));
            assert!(
                found < critical(df),
                "{part}, byte {place}: {found} of {df}"
            );
            tests += 1;
        }
    }
    assert!((30..250).contains(&tests), "{tests} tests");
}

#[test]
fn with_one_colluder_more_the_client_is_read_bit_for_bit_and_the_same_tests_tell_updates_apart() {
    let colluders = threshold(u32::try_from(N).unwrap()) as usize;
    let [zeros, full] = groups(colluders);
    for (view, update) in [(&zeros, vec![0.0; DIM]), (&full, at_clip())] {
        assert_eq!(view.left, 0);
        let plain = encode(&update, 1, &[], &view_plan()).unwrap();
        let mut runs = view.residuals.chunks(DIM);
        assert_eq!(runs.len(), RUNS);
        assert!(runs.all(|found| *found == plain[..DIM]));
    }
    for place in 0..2 {
        let bytes = |view: &View| view.place("stripped vector", place);
        let (found, df) = homogeneity(&bytes(&zeros), &bytes(&full));
        assert!(found > 100.0 * critical(df), "byte {place}: {found}");
    }
    assert!(full.correlation(&at_clip()) > 10.0 * Z_TWO_SIDED);
    // what the server alone sees is uniform still: it is the colluders that read it
    let (found, df) = homogeneity(
        &zeros.place("masked vector", 0),
        &full.place("masked vector", 0),
    );
    assert!(found < critical(df));
}
