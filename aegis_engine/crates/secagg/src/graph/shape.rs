//! Shapes of a round and the bounds that make one acceptable.

/// Log2 of the chance, over all clients of a round, that colluders beat a sparse graph.
const SECURITY_BITS: f64 = 40.0;

/// The server picks the cohort and so may try graphs until one suits it: 2^24 tries are given to it.
const GRINDING_BITS: f64 = 24.0;

/// Log2 of the chance, over all clients of a round, that too few neighbours of one remain.
const FAILURE_BITS: f64 = 30.0;

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
pub(super) struct Tails {
    ln_factorial: Vec<f64>,
}

impl Tails {
    pub(super) fn new(n: u32) -> Self {
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
    pub(super) fn at_least(&self, all: u32, marked: u32, draws: u32, least: u32) -> f64 {
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
    pub(super) fn live(&self, n: u32, degree: u32, threshold: u32, lost: u32) -> bool {
        let tail = self.at_least(
            n - 1,
            share(n, lost).min(n - 1),
            degree,
            degree + 2 - threshold,
        );
        tail + f64::from(n).log2() <= -FAILURE_BITS
    }
}

/// The threshold of a complete graph: any two sets of `t` clients share more than n/3, so that fewer than n/3
/// colluders cannot be asked for both kinds of share of one client in two views.
pub const fn threshold(n: u32) -> u32 {
    // floor(2n/3) without a product that could overflow
    n / 3 * 2 + n % 3 * 2 / 3 + 1
}
