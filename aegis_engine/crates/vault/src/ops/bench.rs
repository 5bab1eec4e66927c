//! Loops for `aegis vault bench`: our seal and open of a chunk beside the same cipher of aws-lc without anything around it.

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::error::{Result, VaultError};
use crate::format::chunk::{self, GcmKey};
use crate::format::header::TAG;
use crate::object::bulk;
use crate::secret::Secret;

/// Seconds of each loop.
#[derive(Debug, Clone, Copy)]
pub struct CipherTimes {
    /// Our seal of a chunk in place.
    pub seal: f64,
    /// The same by aws-lc alone.
    pub raw_seal: f64,
    /// Our open from one buffer into another.
    pub open: f64,
    /// The same by aws-lc alone.
    pub raw_open: f64,
}

/// Seals and opens a chunk of `chunk` bytes `rounds` times each, on this thread.
pub fn cipher(chunk: usize, rounds: u32) -> Result<CipherTimes> {
    let secret = Secret::<32>::random()?;
    let key = GcmKey::new(&secret)?;
    let raw = UnboundKey::new(&AES_256_GCM, secret.expose())
        .map(LessSafeKey::new)
        .map_err(VaultError::crypto("bench"))?;
    let mut sealed = bulk::scratch(chunk)?;
    let mut plain = bulk::scratch(chunk)?;
    let timed = |work: &mut dyn FnMut(u32) -> Result<()>| -> Result<Duration> {
        let start = Instant::now();
        (0..rounds).try_for_each(work)?;
        Ok(start.elapsed())
    };
    let nonce = |n: u32| {
        let mut out = [0; 12];
        out[8..].copy_from_slice(&n.to_be_bytes());
        Nonce::assume_unique_for_key(out)
    };
    let raw_seal = timed(&mut |n| {
        let (data, tag) = sealed[..chunk + TAG].split_at_mut(chunk);
        let made = raw
            .seal_in_place_separate_tag(nonce(n), Aad::empty(), data)
            .map_err(VaultError::crypto("bench"))?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    })?;
    let seal = timed(&mut |n| {
        let (data, tag) = sealed[..chunk + TAG].split_at_mut(chunk);
        tag.copy_from_slice(&chunk::seal(&key, u64::from(n), false, data)?);
        Ok(())
    })?;
    let last = u64::from(rounds.saturating_sub(1));
    let failed = || VaultError::Crypto { op: "bench" };
    let open = timed(&mut |_| {
        chunk::open(
            &key,
            last,
            false,
            &sealed[..chunk + TAG],
            &mut plain[..chunk],
        )
        .ok_or_else(failed)
    })?;
    let (data, tag) = sealed[..chunk + TAG].split_at_mut(chunk);
    let made = raw
        .seal_in_place_separate_tag(nonce(1), Aad::empty(), data)
        .map_err(VaultError::crypto("bench"))?;
    tag.copy_from_slice(made.as_ref());
    let raw_open = timed(&mut |_| {
        let (data, tag) = sealed[..chunk + TAG].split_at(chunk);
        raw.open_separate_gather(nonce(1), Aad::empty(), data, tag, &mut plain[..chunk])
            .map_err(VaultError::crypto("bench"))
    })?;
    Ok(CipherTimes {
        seal: seal.as_secs_f64(),
        raw_seal: raw_seal.as_secs_f64(),
        open: open.as_secs_f64(),
        raw_open: raw_open.as_secs_f64(),
    })
}
