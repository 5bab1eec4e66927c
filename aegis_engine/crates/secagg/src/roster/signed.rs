//! The roster itself, and which one a node takes after another.

use std::collections::BTreeMap;

use super::error::RosterError;

/// A roster whose signature was checked, or that is about to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoster {
    /// Grows with every change.
    pub serial: u64,
    /// Seconds since 1970.
    pub issued: u64,
    /// Seconds since 1970.
    pub expires: u64,
    /// Names by identity (Ed25519 verification key).
    pub members: BTreeMap<[u8; 32], String>,
}

/// What a node remembers of the roster it took last: sealed, by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its serial.
    pub serial: u64,
    /// SHA-256 of its bytes.
    pub hash: [u8; 32],
}

impl SignedRoster {
    /// Whether a node that took `last` before may take this one `now` (seconds since 1970); `hash` is that of the file.
    ///
    /// # Errors
    /// [`RosterError::Expired`], [`RosterError::NotYet`], [`RosterError::OlderSerial`], [`RosterError::TwoOfASerial`].
    pub fn take(
        &self,
        hash: [u8; 32],
        now: u64,
        last: Option<Taken>,
    ) -> Result<Taken, RosterError> {
        const DAY: u64 = 86_400;
        if now >= self.expires {
            return Err(RosterError::Expired {
                since: now - self.expires,
            });
        }
        if self.issued > now.saturating_add(DAY) {
            return Err(RosterError::NotYet {
                ahead: self.issued - now,
            });
        }
        let serial = self.serial;
        match last {
            Some(last) if serial < last.serial => {
                return Err(RosterError::OlderSerial {
                    serial,
                    last: last.serial,
                });
            }
            Some(last) if serial == last.serial && hash != last.hash => {
                return Err(RosterError::TwoOfASerial { serial });
            }
            _ => {}
        }
        Ok(Taken { serial, hash })
    }
}
