//! Randomness that protects somebody: Gaussian noise, Poisson sampling, and the clipping they rely on.
//!
//! - [`Rng`] is `ChaCha20` keyed by the operating system. No seed of a configuration reaches it.
//! - [`gaussian`] and [`add_gaussian`] give noise on a power-of-two grid, so that low-order bits of a float carry
//!   nothing about the value below the noise (Mironov, CCS 2012; Jin et al., arXiv 2112.05307).
//! - [`poisson_rows`] takes each row independently: what amplification by subsampling assumes.
//! - [`Session`] is one round of DP-SGD: it draws the batches, adds the noise and counts both.
//!   Of blocks of people it clips each update, sums them and noises the sum ([`Session::add_block`]).
//! - [`discrete_gaussian`] is exact integer noise, for counts.
//! - [`clip_l2`] bounds the norm as `f64` arithmetic sees it, so the sensitivity is what the accountant was told.
//!
//! What this is not: the noise of gradients is a rounded floating-point Gaussian, not the exact discrete one that counts get
//! (Canonne, Kamath, Steinke 2020); and rejection, in the ziggurat as in the exact sampler, takes a time that depends on the
//! samples, so draw whole tensors rather than timing single values.

mod blocks;
mod clip;
mod discrete;
mod error;
mod gaussian;
mod plan;
mod poisson;
mod rng;
mod session;

pub use blocks::BLOCKS;
pub use clip::{clip_l2, l2_norm};
pub use discrete::discrete_gaussian;
pub use error::NoiseError;
pub use gaussian::{add_gaussian, gaussian, grid};
pub use plan::{CLIP, Plan, SIGMA, STEPS};
pub use poisson::poisson_rows;
pub use rng::Rng;
pub use session::{Session, Spent};
