//! Secure aggregation: a server learns the exact sum of its clients' updates, weights and metrics, and nothing
//! about one client, while any `t = floor(2n/3) + 1` of `n` clients remain (after Bonawitz et al. 2017).
//!
//! Pure state machines: bytes in, bytes out, no I/O, no clock; randomness comes from the operating system.
//! One round:
//!
//! | step | server | client |
//! |---|---|---|
//! | advertise (once a run) | [`ServerRun::add_advert`] | [`ClientRun::advertise`] |
//! | share (may ride in the unmask step of the round before) | [`ServerRun::begin_round`], [`ServerRun::add_share`], [`ServerRun::end_shares`] | [`ClientRun::share`] |
//! | masked input | [`ServerRun::masked_request`], [`ServerRun::add_masked`], [`ServerRun::end_masked`] | [`ClientRun::masked_input`] |
//! | commit (where the [`Shape`] says so) | [`ServerRun::commit_request`], [`ServerRun::add_commit`] | [`ClientRun::commit`] |
//! | unmask | [`ServerRun::unmask_request`], [`ServerRun::add_unmask`], [`ServerRun::finish`] | [`ClientRun::unmask`] |
//!
//! **What a client refuses**, whatever the server asks: a cohort, threshold or graph below its own bounds; a round it has
//! begun; a second answer to the share or mask step; cohorts without itself; keys that their pinned identity did not
//! sign; shares that were sealed in another view of the cohort; fewer survivors than the threshold; a second,
//! different set of survivors to sign or unmask; both kinds of share of one peer.
//!
//! **Groups, and the round that follows**, are servers of their own with the same adverts: [`ServerRun::fork`].
//!
//! **Without a roster** the keys the server relays are taken as they are: the server is then trusted not to put
//! its own in their place. Give [`ClientLimits::roster`] to take that trust away.
//!
//! **State.** [`ClientRun::to_bytes`] holds secrets: seal it. Store it *before* the answer is sent; a state put
//! back to before an answer would answer twice.
//!
//! **Rooms, the lowest first:** `error`; `field`, `ring` (numbers); `plan`, `encode` (what is summed, and how it becomes
//! integers); `secret`, `shamir`, `keys`, `mask` (secrets); `wire`, `message` (bytes); `graph` (who masks with whom);
//! `identity`, `roster` (who may take part); `client`, `server` (the two machines).
//!
//! **Privacy rests on** few enough clients working with the server: `docs/SECURE_AGGREGATION.md` has the bounds. A client that
//! sends a false update is not found here; gates and robust rules are other crates' work.

mod client;
mod encode;
mod error;
mod field;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod graph;
mod identity;
mod keys;
mod mask;
mod message;
mod plan;
mod ring;
mod roster;
mod secret;
mod server;
mod shamir;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{ClientLimits, ClientRun, Roster, Sums};
pub use encode::encode;
pub use error::SecAggError;
pub use graph::{Shape, honest_inputs, threshold};
pub use identity::{Identity, signature_holds};
pub use plan::{Encoding, Plan};
pub use ring::RingWidth;
pub use roster::{ROSTER_MAX, RosterError, SignedRoster, Taken, roster_hash};
pub use server::{FalseShare, Profile, ServerRun, Sum};
