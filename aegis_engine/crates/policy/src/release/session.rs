//! DP-SGD under one permit: the noise crate's counters, tied to the permit and the reservation they were made for.

use aegis_noise::{NoiseError, Plan, Session, Spent};
use uuid::Uuid;

use crate::permit::{Action, Permit};

/// Draws and noises for one permit and one reservation; [`Engine::gate`](crate::Engine::gate) takes it and reads from it
/// what was spent. Nothing else makes a release `secure`.
#[derive(Debug)]
pub struct DpSession {
    permit: Uuid,
    reservation: String,
    inner: Session,
}

impl DpSession {
    /// A session over the rows of `permit`, charged as `reservation`. `seed` makes it repeatable, and worthless.
    ///
    /// # Errors
    /// The permit is none to train, the reservation has no name, or the plan lies outside [`Plan::check`].
    pub fn new(
        permit: &Permit,
        mut plan: Plan,
        reservation: &str,
        seed: Option<u64>,
    ) -> Result<Self, NoiseError> {
        if permit.action() != Action::Train {
            return Err(NoiseError::Session {
                what: "needs a permit to train",
            });
        }
        if reservation.is_empty() || reservation.len() > 256 {
            return Err(NoiseError::Session {
                what: "needs the id of a reservation, 1 to 256 bytes",
            });
        }
        plan.rows = permit.row_count();
        Ok(Self {
            permit: permit.id(),
            reservation: reservation.to_owned(),
            inner: match seed {
                None => Session::new(plan)?,
                Some(seed) => Session::insecure_test(plan, seed)?,
            },
        })
    }

    /// The rows of the next batch: places among the permit's rows. See [`Session::draw`].
    pub fn draw(&mut self) -> Result<Vec<u32>, NoiseError> {
        self.inner.draw()
    }

    /// The noised sum. See [`Session::noise`].
    pub fn noise(&mut self, sums: &[f64]) -> Result<Vec<f32>, NoiseError> {
        self.inner.noise(sums)
    }

    /// Adds one block's update, clipped. See [`Session::add_block`].
    pub fn add_block(&mut self, update: &[f32]) -> Result<(), NoiseError> {
        self.inner.add_block(update)
    }

    /// The noised sum over all blocks. See [`Session::noise_blocks`].
    pub fn noise_blocks(&mut self) -> Result<Vec<f32>, NoiseError> {
        self.inner.noise_blocks()
    }

    /// What was drawn and noised so far.
    pub fn spent(&self) -> Spent {
        self.inner.spent()
    }

    /// The permit it was made for.
    pub fn permit(&self) -> Uuid {
        self.permit
    }

    /// The reservation it is charged as.
    pub fn reservation(&self) -> &str {
        &self.reservation
    }
}
