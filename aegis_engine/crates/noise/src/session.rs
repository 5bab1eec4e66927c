//! One round of DP-SGD: what was drawn and what was noised, counted where nobody but the engine counts.
//!
//! The trainer asks for a batch, sums clipped gradients, and gets the noised sum back. A step that was drawn and not noised,
//! noised twice, or noised in part leaves a session that is not [`Spent::whole`]; what was trained on it then leaves only
//! where no privacy is asked for.

use crate::blocks::BlockSum;
use crate::error::NoiseError;
use crate::gaussian::noised;
use crate::plan::Plan;
use crate::poisson::poisson_rows;
use crate::rng::Rng;

/// A sum may be so many standard deviations of its noise, and no more: beyond, `f32` would swallow the noise.
const LARGEST_SUM: f64 = (1_u32 << 22) as f64;

/// What a session came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// What was planned.
    pub plan: Plan,
    /// Batches drawn.
    pub drawn: u64,
    /// Steps whose whole sum was noised.
    pub noised: u64,
    /// Coordinates noised, over all steps.
    pub coordinates: u64,
    /// Whether the generator was seeded: protects nobody.
    pub insecure: bool,
}

impl Spent {
    /// Whether each batch that was drawn left only with noise on every coordinate, once. A session without a step did
    /// nothing that could be called private.
    pub fn whole(&self) -> bool {
        self.drawn >= 1
            && self.drawn <= self.plan.steps
            && self.noised == self.drawn
            && self.drawn.checked_mul(self.plan.dim) == Some(self.coordinates)
    }
}

/// Draws batches and adds noise for one reservation. Neither `Clone` nor restartable.
#[derive(Debug)]
pub struct Session {
    rng: Rng,
    spent: Spent,
    blocks: Option<BlockSum>,
}

impl Session {
    /// A session with a generator keyed by the operating system.
    pub fn new(plan: Plan) -> Result<Self, NoiseError> {
        Self::with(plan, Rng::from_os()?, false)
    }

    /// A session anybody can repeat: **protects nobody**, and says so in [`Spent::insecure`].
    pub fn insecure_test(plan: Plan, seed: u64) -> Result<Self, NoiseError> {
        Self::with(plan, Rng::insecure_test(seed), true)
    }

    fn with(plan: Plan, rng: Rng, insecure: bool) -> Result<Self, NoiseError> {
        plan.check()?;
        let blocks = match plan.blocks {
            0 => None,
            most => Some(BlockSum::new(plan.dim, plan.clip, most)?),
        };
        Ok(Self {
            blocks,
            rng,
            spent: Spent {
                plan,
                drawn: 0,
                noised: 0,
                coordinates: 0,
                insecure,
            },
        })
    }

    /// The rows of the next step's batch.
    ///
    /// # Errors
    /// All reserved steps are drawn, or the step before has no noise yet.
    pub fn draw(&mut self) -> Result<Vec<u32>, NoiseError> {
        self.without_blocks()?;
        let Spent { plan, drawn, .. } = self.spent;
        if drawn == plan.steps {
            return Err(NoiseError::Session {
                what: "has drawn every step that was reserved",
            });
        }
        if self.spent.noised != drawn {
            return Err(NoiseError::Session {
                what: "drew a batch whose sum was never noised, so it draws no other",
            });
        }
        let rows = poisson_rows(&mut self.rng, plan.rows, plan.rate)?;
        self.spent.drawn += 1;
        Ok(rows)
    }

    /// The sum of the drawn batch with noise of standard deviation `sigma · clip` on every coordinate.
    ///
    /// # Errors
    /// No batch waits for noise, the sum is not of the session's dimension, or a value is not finite or so large that
    /// the noise would be lost in its rounding. Nothing was noised then.
    pub fn noise(&mut self, sums: &[f64]) -> Result<Vec<f32>, NoiseError> {
        self.without_blocks()?;
        let plan = self.spent.plan;
        if self.spent.noised == self.spent.drawn {
            return Err(NoiseError::Session {
                what: "has no batch that waits for its noise: a step is noised once",
            });
        }
        if sums.len() as u64 != plan.dim {
            return Err(NoiseError::Session {
                what: "was made for a gradient of another dimension",
            });
        }
        let sigma = plan.sigma * plan.clip;
        // A NaN compares false, so it is refused.
        if !sums.iter().all(|sum| sum.abs() <= LARGEST_SUM * sigma) {
            return Err(NoiseError::Session {
                what: "was given a sum that is not finite, or beyond 2^22 standard deviations of its noise",
            });
        }
        let out = noised(&mut self.rng, sums, sigma)?;
        self.spent.noised += 1;
        self.spent.coordinates += plan.dim;
        Ok(out)
    }

    /// Adds the update of a block, scaled to an L2 norm of at most the clip; zeros in place of one that is not finite. A block
    /// that is never added counts as zeros, too.
    ///
    /// # Errors
    /// It is no session of blocks, the update is of another dimension, there is no block left, or the sum has left.
    pub fn add_block(&mut self, update: &[f32]) -> Result<(), NoiseError> {
        self.unspent_blocks()?.add(update)
    }

    /// The sum over all blocks with noise of standard deviation `sigma · 2 · clip` on every coordinate, once.
    ///
    /// # Errors
    /// It is no session of blocks, or the sum has left.
    pub fn noise_blocks(&mut self) -> Result<Vec<f32>, NoiseError> {
        let plan = self.spent.plan;
        let sums = self.unspent_blocks()?.total();
        let out = noised(&mut self.rng, &sums, plan.sigma * plan.sensitivity())?;
        self.spent.drawn += 1;
        self.spent.noised += 1;
        self.spent.coordinates += plan.dim;
        Ok(out)
    }

    fn without_blocks(&self) -> Result<(), NoiseError> {
        match self.blocks {
            None => Ok(()),
            Some(_) => Err(NoiseError::Session {
                what: "is one of blocks: it sums what add_block was given, and nothing else",
            }),
        }
    }

    fn unspent_blocks(&mut self) -> Result<&mut BlockSum, NoiseError> {
        if self.spent.noised > 0 && self.blocks.is_some() {
            return Err(NoiseError::Session {
                what: "has given its sum of blocks: one session, one sum",
            });
        }
        self.blocks.as_mut().ok_or(NoiseError::Session {
            what: "has no blocks: it draws batches",
        })
    }

    /// What was drawn and noised so far.
    pub fn spent(&self) -> Spent {
        self.spent
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact values are meant")]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            sigma: 1.0,
            clip: 0.5,
            rate: 0.5,
            steps: 3,
            expected_batch: 8.0,
            dim: 4,
            rows: 20,
            blocks: 0,
        }
    }

    fn session() -> Session {
        Session::new(plan()).unwrap()
    }

    #[test]
    fn a_session_that_noised_each_drawn_step_once_is_whole() {
        let mut s = session();
        assert!(!s.spent().whole(), "nothing was done");
        for step in 1..=3 {
            s.draw().unwrap();
            assert!(!s.spent().whole(), "a batch waits for its noise");
            assert_eq!(s.noise(&[0.0; 4]).unwrap().len(), 4);
            assert!(s.spent().whole());
            assert_eq!(s.spent().coordinates, 4 * step);
        }
        assert!(matches!(s.draw(), Err(NoiseError::Session { .. })));
        assert!(s.spent().whole(), "a refused draw changes nothing");
    }

    #[test]
    fn no_step_is_drawn_before_the_one_before_is_noised_and_none_is_noised_twice() {
        let mut s = session();
        assert!(matches!(
            s.noise(&[0.0; 4]),
            Err(NoiseError::Session { .. })
        ));
        s.draw().unwrap();
        assert!(matches!(s.draw(), Err(NoiseError::Session { .. })));
        s.noise(&[0.0; 4]).unwrap();
        assert!(matches!(
            s.noise(&[0.0; 4]),
            Err(NoiseError::Session { .. })
        ));
        assert_eq!((s.spent().drawn, s.spent().noised), (1, 1));
    }

    #[test]
    fn a_sum_of_another_dimension_or_without_room_for_its_noise_is_refused() {
        let bound = 0.5 * f64::from(1_u32 << 22);
        let mut s = session();
        s.draw().unwrap();
        for bad in [
            vec![0.0; 3],
            vec![0.0; 5],
            vec![],
            vec![0.0, f64::NAN, 0.0, 0.0],
            vec![0.0, f64::INFINITY, 0.0, 0.0],
            vec![bound * (1.0 + 1e-9), 0.0, 0.0, 0.0],
            vec![0.0, 0.0, 0.0, -bound * (1.0 + 1e-9)],
        ] {
            assert!(
                matches!(s.noise(&bad), Err(NoiseError::Session { .. })),
                "{bad:?}"
            );
        }
        assert!(!s.spent().whole());
        assert_ne!(s.noise(&[bound, -bound, 0.0, 0.0]).unwrap()[2], 0.0);
    }

    #[test]
    fn noise_is_there_at_the_largest_sum_too() {
        let bound = 0.5 * f64::from(1_u32 << 22);
        let plan = Plan {
            dim: 1000,
            ..plan()
        };
        let mut s = Session::new(plan).unwrap();
        s.draw().unwrap();
        let out = s.noise(&vec![bound; 1000]).unwrap();
        let distinct: std::collections::BTreeSet<u32> = out.iter().map(|v| v.to_bits()).collect();
        assert!(distinct.len() > 3, "{distinct:?}");
    }

    #[test]
    fn mechanisms_outside_the_bounds_are_refused() {
        let changes: [fn(&mut Plan, f64); 4] = [
            |p, v| p.sigma = v,
            |p, v| p.clip = v,
            |p, v| p.rate = v,
            |p, v| p.expected_batch = v,
        ];
        for value in [
            0.0,
            -1.0,
            1e-155,
            1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            for (at, change) in changes.into_iter().enumerate() {
                if at == 2 && value == 1e-155 {
                    continue; // a rate may be as small as one likes
                }
                let mut bad = plan();
                change(&mut bad, value);
                assert!(
                    matches!(Session::new(bad), Err(NoiseError::OutOfBounds { .. })),
                    "{bad:?}"
                );
                assert!(Session::insecure_test(bad, 0).is_err());
            }
        }
        for (sigma, clip, fine) in [
            (0.049_999, 1.0, false),
            (0.05, 1e-6, true),
            (1e4, 1e6, true),
            (1.0, 1.1e6, false),
        ] {
            assert_eq!(
                Session::new(Plan {
                    sigma,
                    clip,
                    ..plan()
                })
                .is_ok(),
                fine
            );
        }
        for steps in [0, 1_000_001, u64::MAX] {
            assert!(Session::new(Plan { steps, ..plan() }).is_err());
        }
        assert!(Session::new(Plan { dim: 0, ..plan() }).is_err());
        assert!(
            Session::new(Plan {
                rate: 1.0 + 1e-9,
                ..plan()
            })
            .is_err()
        );
    }

    #[test]
    fn a_seeded_session_repeats_and_says_so() {
        let run = |seed| {
            let mut s = Session::insecure_test(plan(), seed).unwrap();
            (
                s.draw().unwrap(),
                s.noise(&[0.0; 4]).unwrap(),
                s.spent().insecure,
            )
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).1, run(2).1);
        assert!(run(1).2);
        assert!(!session().spent().insecure);
    }
}
