//! Who shares masks with whom: everybody (profile S) or the neighbours on a shuffled ring (profile D), and the bounds that
//! make a shape acceptable. `docs/SECURE_AGGREGATION.md` has the arguments.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use crate::{SecAggError, keys, threshold};

/// Log2 of the chance, over all clients of a round, that colluders beat a sparse graph.
const SECURITY_BITS: f64 = 40.0;
/// The server picks the cohort and so may try graphs until one suits it: 2^24 tries are given to it.
const GRINDING_BITS: f64 = 24.0;
/// Log2 of the chance, over all clients of a round, that too few neighbours of one remain.
const FAILURE_BITS: f64 = 30.0;

const GRAPH: &[u8] = b"aegis/secagg/v2/graph";

/// The shape of a round: the same for all clients, bound into its transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Neighbours of each client: `n - 1` in a complete graph, else even.
    pub degree: u32,
    /// Shares that reconstruct a secret, of the `degree + 1` there are.
    pub threshold: u32,
    /// Whether clients sign the set of survivors and see their neighbours' signatures before they unmask.
    pub commit: bool,
}

impl Shape {
    /// Profile S: everybody with everybody, `floor(2n/3) + 1` shares, no commit step.
    pub const fn complete(n: u32) -> Self {
        Self {
            degree: n.saturating_sub(1),
            threshold: threshold(n),
            commit: false,
        }
    }

    /// Profile D: the sparsest graph in which `colluding` percent of the clients learn nothing and `lost` percent may
    /// drop out, with the commit step. `None` where no graph below a complete one does.
    pub fn sparse(n: u32, colluding: u32, lost: u32) -> Option<Self> {
        let tails = Tails::new(n);
        let mut shapes = (1..n / 2).map(|half| half * 2).filter_map(|degree| {
            let secure = |threshold: &u32| tails.secure(n, degree, *threshold, colluding);
            // more shares needed is safer against colluders and weaker against loss
            let threshold = (degree / 2 + 2..=degree).find(secure)?;
            tails.live(n, degree, threshold, lost).then_some(Self {
                degree,
                threshold,
                commit: true,
            })
        });
        shapes.next()
    }

    /// Whether every client is every other's neighbour.
    pub const fn is_complete(&self, n: u32) -> bool {
        // the degree comes from the wire and may be anything
        matches!(n.checked_sub(1), Some(others) if self.degree == others)
    }

    /// Whether a client that assumes `colluding` percent of colluders may take part.
    pub(crate) fn secure(
        &self,
        n: u32,
        colluding: u32,
        min_honest: u32,
    ) -> Result<(), &'static str> {
        if self.is_complete(n) {
            let floor = honest_inputs(n, self.threshold, share(n, colluding), self.commit);
            return if floor >= min_honest {
                Ok(())
            } else {
                Err(
                    "too few honest inputs could be in a sum by split views; ask for the commit step or a larger cohort",
                )
            };
        }
        if self.degree >= n || self.degree % 2 == 1 || self.degree == 0 {
            return Err("the degree must be even and below the cohort, or n - 1");
        }
        if !self.commit {
            return Err("a sparse graph needs the commit step");
        }
        if !Tails::new(n).secure(n, self.degree, self.threshold, colluding) {
            return Err("degree and threshold are too low for the colluders assumed");
        }
        Ok(())
    }
}

/// At most `percent` of n: rounded down.
const fn share(n: u32, percent: u32) -> u32 {
    // without a product that could overflow
    n / 100 * percent + n % 100 * percent / 100
}

/// The fewest honest inputs a server with `colluders` of the `n` clients can bring into a sum it reads, in a complete
/// graph. With the commit step all honest clients answer for one set of survivors. Without it every client answers for
/// its own, and the bound counts what that allows: `n - t` may be left out or called dropped for each client, and
/// a dropped one's secret needs `t - colluders` honest answers.
pub fn honest_inputs(n: u32, threshold: u32, colluders: u32, commit: bool) -> u32 {
    let [n, t, c] = [n, threshold, colluders].map(i64::from);
    if t > n || c >= 2 * t - n {
        return 0; // both kinds of share of one client are in reach
    }
    let (honest, spare, need) = (n - c, n - t, t - c);
    let floor = if commit {
        need
    } else {
        let possible = |inside: &i64| {
            let feasible = |left_out: i64| {
                let dropped = honest - inside - left_out;
                dropped >= 0
                    && dropped * need <= inside * (spare - left_out) + (left_out + dropped) * spare
            };
            // linear in left_out, so an end of its range is best
            feasible(0) || feasible(spare.min(honest - inside))
        };
        (1..=honest).find(possible).unwrap_or(honest)
    };
    u32::try_from(floor).unwrap_or(0)
}

/// Tails of hypergeometric distributions by logarithms of factorials.
struct Tails {
    ln_factorial: Vec<f64>,
}

impl Tails {
    fn new(n: u32) -> Self {
        let mut sum = 0.0;
        let ln_factorial = (0..=n)
            .map(|i| {
                sum += f64::from(i.max(1)).ln();
                sum
            })
            .collect();
        Self { ln_factorial }
    }

    fn ln_choose(&self, n: u32, k: u32) -> f64 {
        let ln = |i: u32| self.ln_factorial[i as usize];
        ln(n) - ln(k) - ln(n - k)
    }

    /// log2 P[at least `least` of `draws` are marked], `marked` of `all` being so; drawn without putting back.
    fn at_least(&self, all: u32, marked: u32, draws: u32, least: u32) -> f64 {
        let plain = all - marked;
        let low = least.max(draws.saturating_sub(plain));
        let terms: f64 = (low..=draws.min(marked))
            .map(|i| {
                let ln = self.ln_choose(marked, i) + self.ln_choose(plain, draws - i)
                    - self.ln_choose(all, draws);
                ln.exp()
            })
            .sum();
        terms.log2()
    }

    /// Fewer colluders than `threshold - 1 - degree/2` in each half of every client's neighbourhood: then no client can be
    /// asked for both kinds of share, and the ring of honest survivors has no gap that the threshold would not show.
    fn secure(&self, n: u32, degree: u32, threshold: u32, colluding: u32) -> bool {
        let Some(least) = threshold
            .checked_sub(1 + degree / 2)
            .filter(|least| *least > 0)
        else {
            return false;
        };
        let tail = self.at_least(n - 1, share(n, colluding).min(n - 1), degree / 2, least);
        threshold <= degree && tail + f64::from(2 * n).log2() <= -(SECURITY_BITS + GRINDING_BITS)
    }

    /// Enough of every client's neighbours remain.
    fn live(&self, n: u32, degree: u32, threshold: u32, lost: u32) -> bool {
        let tail = self.at_least(
            n - 1,
            share(n, lost).min(n - 1),
            degree,
            degree + 2 - threshold,
        );
        tail + f64::from(n).log2() <= -FAILURE_BITS
    }
}

/// A shuffled ring of the cohort's places; neighbours are the `degree / 2` next on either side.
#[cfg_attr(feature = "fuzzing", derive(Clone, PartialEq))]
pub(crate) struct Ring {
    order: Vec<u32>,
    place: Vec<u32>,
}

impl Ring {
    /// The ring every client of a cohort computes alike: a Fisher-Yates shuffle drawn from the transcript.
    pub(crate) fn new(transcript: &[u8; 32], n: u32) -> Result<Self, SecAggError> {
        let mut draws = Draws::new(&keys::hash(GRAPH, &[transcript]))?;
        let mut order: Vec<u32> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last as usize, draws.below(last + 1)? as usize);
        }
        let mut place = vec![0; order.len()];
        for (at, index) in (0..n).zip(&order) {
            place[*index as usize] = at;
        }
        Ok(Self { order, place })
    }

    /// Places in the cohort of the neighbours of `index`, in increasing order.
    pub(crate) fn neighbours(&self, index: u32, degree: u32) -> Vec<u32> {
        let n = self.order.len();
        let at = self.place[index as usize] as usize;
        let mut near: Vec<u32> = (1..=degree as usize / 2)
            .flat_map(|step| [(at + step) % n, (at + n - step) % n])
            .map(|at| self.order[at])
            .collect();
        near.sort_unstable();
        near
    }
}

/// Public random numbers from a seed: AES-256-CTR words, rejected above the last whole multiple.
struct Draws {
    key: EncryptingKey,
    block: u128,
    words: Vec<u8>,
}

impl Draws {
    const BYTES: usize = 4096;

    fn new(seed: &[u8; 32]) -> Result<Self, SecAggError> {
        UnboundCipherKey::new(&AES_256, seed)
            .and_then(EncryptingKey::ctr)
            .map(|key| Self {
                key,
                block: 0,
                words: Vec::new(),
            })
            .map_err(|_| SecAggError::Crypto {
                what: "drawing a graph",
            })
    }

    fn below(&mut self, bound: u32) -> Result<u32, SecAggError> {
        let whole = u32::MAX - u32::MAX % bound;
        loop {
            let Some(start) = self.words.len().checked_sub(4) else {
                self.refill()?;
                continue;
            };
            let mut word = [0; 4];
            word.copy_from_slice(&self.words[start..]);
            self.words.truncate(start);
            let word = u32::from_le_bytes(word);
            if word < whole {
                return Ok(word % bound);
            }
        }
    }

    fn refill(&mut self) -> Result<(), SecAggError> {
        self.words = vec![0; Self::BYTES];
        let counter = EncryptionContext::Iv128(FixedLength::from(self.block.to_be_bytes()));
        self.key
            .less_safe_encrypt(&mut self.words, counter)
            .map_err(|_| SecAggError::Crypto {
                what: "drawing a graph",
            })?;
        self.block += (Self::BYTES / 16) as u128;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Ring, Shape, Tails, honest_inputs};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn neighbours_are_mutual_distinct_and_as_many_as_asked_for(
            seed in any::<[u8; 32]>(), n in 4u32..80, half in 1u32..20,
        ) {
            let degree = 2 * half.min((n - 1) / 2);
            let ring = Ring::new(&seed, n).unwrap();
            let all: Vec<Vec<u32>> = (0..n).map(|i| ring.neighbours(i, degree)).collect();
            for (i, near) in (0..n).zip(&all) {
                prop_assert_eq!(near.len(), degree as usize);
                prop_assert!(near.windows(2).all(|pair| pair[0] < pair[1]) && !near.contains(&i));
                prop_assert!(near.iter().all(|j| all[*j as usize].contains(&i)));
            }
        }
    }

    #[test]
    fn another_transcript_gives_another_ring_and_every_order_is_as_likely() {
        assert_ne!(
            Ring::new(&[1; 32], 50).unwrap().order,
            Ring::new(&[2; 32], 50).unwrap().order
        );
        // 6 orders of 3, 6000 draws: 1000 each, standard deviation 29; 200 is seven of them
        let mut counts = std::collections::BTreeMap::new();
        for i in 0u32..6000 {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&i.to_le_bytes());
            *counts
                .entry(Ring::new(&seed, 3).unwrap().order)
                .or_insert(0i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|count| (count - 1000).abs() < 200),
            "{counts:?}"
        );
    }

    #[test]
    fn tails_agree_with_exact_fractions() {
        let tails = Tails::new(20);
        // 5 marked of 20, 4 drawn: P[>= 3] = (C(5,3) C(15,1) + C(5,4)) / C(20,4) = 155 / 4845
        assert!((tails.at_least(20, 5, 4, 3).exp2() - 155.0 / 4845.0).abs() < 1e-12);
        assert!((tails.at_least(20, 5, 4, 0).exp2() - 1.0).abs() < 1e-12);
        assert!(tails.at_least(20, 2, 4, 3).exp2() < 1e-300);
    }

    #[test]
    fn a_sparse_shape_meets_its_own_bounds_and_grows_with_what_it_must_bear() {
        for (n, colluding, lost) in [
            (1000, 10, 10),
            (1000, 20, 10),
            (10_000, 10, 10),
            (10_000, 20, 30),
        ] {
            let shape = Shape::sparse(n, colluding, lost).unwrap();
            assert!(shape.secure(n, colluding, 2).is_ok(), "{n} {shape:?}");
            assert!(
                shape.degree < n / 2 || lost > 10,
                "{n} {colluding} {lost} {shape:?}"
            );
            let weaker = Shape {
                degree: shape.degree - 2,
                ..shape
            };
            assert!(
                weaker.threshold > weaker.degree
                    || !Tails::new(n).live(n, weaker.degree, weaker.threshold, lost)
            );
            assert!(
                Shape {
                    commit: false,
                    ..shape
                }
                .secure(n, colluding, 2)
                .is_err()
            );
            assert!(
                Shape {
                    threshold: shape.threshold - 1,
                    ..shape
                }
                .secure(n, colluding, 2)
                .is_err()
            );
        }
        // six clients of which two collude and two leave: only a complete graph could do
        assert_eq!(Shape::sparse(6, 34, 34), None);
    }

    #[test]
    fn split_views_leave_a_third_of_the_honest_without_colluders_and_less_with_them() {
        let floor = |n, c| honest_inputs(n, crate::threshold(n), c, false);
        assert_eq!(
            [floor(10, 0), floor(10, 1), floor(10, 2), floor(10, 3)],
            [5, 3, 1, 1]
        );
        assert_eq!(floor(100, 0), 35);
        assert_eq!(floor(10, 4), 0);
        assert_eq!(honest_inputs(10, 7, 3, true), 4);
        assert_eq!(honest_inputs(3, 3, 1, false), 2);
    }
}
