//! The operator's roster: whose keys a client takes, in a text file signed by a key that the nodes pin.
//!
//! ```text
//! aegis-roster 1
//! serial 7                       grows with every change; a node never goes back
//! issued 1795000000              seconds since 1970
//! expires 1826536000
//! signer 8f…                     Ed25519 key (RFC 8032), 64 hex digits
//! member 03… hospital-a          identity, name; sorted by identity
//! member 9c… hospital-b
//! signature 5a…                  128 hex digits, over "aegis/roster/v1" ‖ 00 ‖ all bytes before this line
//! ```
//! One spelling a roster: lower-case digits, no leading zeros, single spaces, LF, nothing after the signature. Members are
//! identities and not Flower's node ids, which a `SuperLink` gives out anew: an advert binds the two for one run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::SecAggError;
use crate::keys;

const DOMAIN: &[u8] = b"aegis/roster/v1\0";
/// Larger files are not read.
pub const ROSTER_MAX: usize = 4 << 20;
const NAME_MAX: usize = 64;

/// Why a roster is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// Not a roster, or not in its one spelling.
    #[error(
        "line {line} of the roster: {reason}; have the operator sign it again with `aegis roster sign`"
    )]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is expected there.
        reason: &'static str,
    },
    /// Signed by another key than the pinned one.
    #[error(
        "the roster is signed by {found}, this node pins {pinned}; ask the operator which of the two is right"
    )]
    OtherSigner {
        /// Pinned key, in hex.
        pinned: String,
        /// Key in the file, in hex.
        found: String,
    },
    /// The signature does not verify: the file was changed after it was signed.
    #[error(
        "the signature of the roster does not verify: it was changed after it was signed; get it from the operator again"
    )]
    BadSignature,
    /// Its time has passed.
    #[error("the roster expired {since} s ago; get a new one from the operator")]
    Expired {
        /// Seconds since then.
        since: u64,
    },
    /// Issued in the future by more than a day: one of the two clocks is wrong.
    #[error("the roster was issued {ahead} s in the future; check the clock of this node")]
    NotYet {
        /// Seconds until then.
        ahead: u64,
    },
    /// Older than one that this node has taken.
    #[error(
        "roster {serial} is older than {last}, which this node has taken; get the current one from the operator"
    )]
    OlderSerial {
        /// Serial of the file.
        serial: u64,
        /// Serial last taken.
        last: u64,
    },
    /// Another roster of the same serial: the operator signed two.
    #[error(
        "there are two different rosters of serial {serial}; the operator must sign one with a higher serial"
    )]
    TwoOfASerial {
        /// The serial.
        serial: u64,
    },
    /// A member that cannot be written.
    #[error("member {name:?}: {reason}")]
    Member {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The engine's cryptography failed.
    #[error(transparent)]
    Crypto(#[from] SecAggError),
}

impl RosterError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "AEG-S030",
            Self::OtherSigner { .. } => "AEG-S031",
            Self::BadSignature => "AEG-S032",
            Self::Expired { .. } => "AEG-S033",
            Self::NotYet { .. } => "AEG-S034",
            Self::OlderSerial { .. } => "AEG-S035",
            Self::TwoOfASerial { .. } => "AEG-S036",
            Self::Member { .. } => "AEG-S037",
            Self::Crypto(inner) => inner.code(),
        }
    }
}

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

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of exactly `2 * N` lower-case digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Some("a name has 1 to 64 bytes");
    }
    name.chars()
        .any(|c| c.is_control() || c.is_whitespace())
        .then_some("a name has no spaces and no control characters")
}

impl SignedRoster {
    /// The file, signed by `seed`.
    ///
    /// # Errors
    /// [`RosterError::Member`] for names that cannot be written; [`RosterError::Crypto`].
    pub fn sign(&self, seed: &[u8; 32]) -> Result<String, RosterError> {
        let mut text = self.covered(&keys::identity(seed)?)?;
        let signature = keys::sign(seed, &[DOMAIN, text.as_bytes()].concat())?;
        let _ = writeln!(text, "signature {}", hex(&signature));
        Ok(text)
    }

    /// The lines that the signature covers.
    fn covered(&self, signer: &[u8; 32]) -> Result<String, RosterError> {
        let mut names: Vec<&String> = self.members.values().collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(RosterError::Member {
                name: twice[0].clone(),
                reason: "two members have this name",
            });
        }
        let mut text = format!(
            "aegis-roster 1\nserial {}\nissued {}\nexpires {}\nsigner {}\n",
            self.serial,
            self.issued,
            self.expires,
            hex(signer)
        );
        for (identity, name) in &self.members {
            if let Some(reason) = name_fault(name) {
                let name = name.clone();
                return Err(RosterError::Member { name, reason });
            }
            let _ = writeln!(text, "member {} {name}", hex(identity));
        }
        Ok(text)
    }

    /// Reads a file that the pinned `signer` must have signed. Nothing of it is believed before that.
    ///
    /// # Errors
    /// [`RosterError::Malformed`], [`RosterError::OtherSigner`], [`RosterError::BadSignature`].
    pub fn open(text: &str, signer: &[u8; 32]) -> Result<Self, RosterError> {
        let (roster, found, signature, covered) = Lines::new(text)?.roster()?;
        if found != *signer {
            return Err(RosterError::OtherSigner {
                pinned: hex(signer),
                found: hex(&found),
            });
        }
        keys::verify(
            0,
            signer,
            &[DOMAIN, covered.as_bytes()].concat(),
            &signature,
        )
        .map_err(|_| RosterError::BadSignature)?;
        Ok(roster)
    }

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

/// SHA-256 of a roster file, as [`Taken`] remembers it.
pub fn roster_hash(text: &str) -> [u8; 32] {
    keys::hash(DOMAIN, &[text.as_bytes()])
}

/// A roster read and written again with the signature it has: for the fuzzers, who cannot sign.
#[cfg(feature = "fuzzing")]
pub(crate) fn again(text: &str) -> Option<String> {
    let (roster, signer, signature, _) = Lines::new(text).ok()?.roster().ok()?;
    let mut again = roster
        .covered(&signer)
        .expect("what was read can be written");
    let _ = writeln!(again, "signature {}", hex(&signature));
    Some(again)
}

struct Lines<'a> {
    text: &'a str,
    /// Where the line being read starts.
    at: usize,
    number: usize,
}

type Parsed<'a> = (SignedRoster, [u8; 32], [u8; 64], &'a str);

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Result<Self, RosterError> {
        let lines = Self {
            text,
            at: 0,
            number: 1,
        };
        if text.len() > ROSTER_MAX {
            return Err(lines.bad("it is larger than 4 MiB"));
        }
        Ok(lines)
    }

    const fn bad(&self, reason: &'static str) -> RosterError {
        RosterError::Malformed {
            line: self.number,
            reason,
        }
    }

    /// What follows `label` and a space in this line, when it starts so.
    fn field(&mut self, label: &str) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let line = &rest[..rest.find('\n')?];
        let value = line.strip_prefix(label)?.strip_prefix(' ')?;
        self.at += line.len() + 1;
        self.number += 1;
        Some(value)
    }

    fn number(&mut self, label: &str, reason: &'static str) -> Result<u64, RosterError> {
        let bad = self.bad(reason);
        let value: Option<u64> = self
            .field(label)
            .and_then(|text| text.parse().ok().filter(|n: &u64| n.to_string() == text));
        value.ok_or(bad)
    }

    fn bytes<const N: usize>(
        &mut self,
        label: &str,
        reason: &'static str,
    ) -> Result<[u8; N], RosterError> {
        let bad = self.bad(reason);
        self.field(label).and_then(unhex).ok_or(bad)
    }

    fn roster(mut self) -> Result<Parsed<'a>, RosterError> {
        let not_one = self.bad("\"aegis-roster 1\" is expected");
        if self.field("aegis-roster") != Some("1") {
            return Err(not_one);
        }
        let serial = self.number("serial", "\"serial\" and a number are expected")?;
        let issued = self.number("issued", "\"issued\" and seconds since 1970 are expected")?;
        let expires = self.number("expires", "\"expires\" and seconds since 1970 are expected")?;
        let signer = self.bytes(
            "signer",
            "\"signer\" and 64 lower-case hex digits are expected",
        )?;
        let (mut members, mut names) = (BTreeMap::new(), BTreeSet::new());
        loop {
            let bad = self.bad("\"member\", 64 lower-case hex digits and a name are expected");
            let order = self.bad("members are sorted by their keys, each once");
            let twice = self.bad("a name is given to one member only");
            let Some(member) = self.field("member") else {
                break;
            };
            let (key, name) = member.split_once(' ').ok_or_else(|| bad.clone())?;
            let key: [u8; 32] = unhex(key).ok_or_else(|| bad.clone())?;
            if name_fault(name).is_some() {
                return Err(bad);
            }
            if members
                .last_key_value()
                .is_some_and(|(last, _)| *last >= key)
            {
                return Err(order);
            }
            if !names.insert(name) {
                return Err(twice);
            }
            members.insert(key, name.to_owned());
        }
        let covered = &self.text[..self.at];
        let signature = self.bytes(
            "signature",
            "\"signature\" and 128 lower-case hex digits are expected",
        )?;
        if self.at != self.text.len() {
            return Err(self.bad("nothing may follow the signature"));
        }
        let roster = SignedRoster {
            serial,
            issued,
            expires,
            members,
        };
        Ok((roster, signer, signature, covered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn roster() -> SignedRoster {
        let member = |n: u8| (keys::identity(&[n; 32]).unwrap(), format!("node-{n}"));
        SignedRoster {
            serial: 7,
            issued: 1_000_000,
            expires: 2_000_000,
            members: (1..4).map(member).collect(),
        }
    }

    #[test]
    fn what_was_signed_is_what_is_read() {
        let text = roster().sign(&SEED).unwrap();
        let signer = keys::identity(&SEED).unwrap();
        assert_eq!(SignedRoster::open(&text, &signer).unwrap(), roster());
    }

    #[test]
    fn two_members_of_one_name_are_neither_written_nor_read() {
        let mut twice = roster();
        let names = twice.members.values_mut();
        names.for_each(|name| "node".clone_into(name));
        assert!(matches!(twice.sign(&SEED), Err(RosterError::Member { .. })));
        // signed by other means than this crate's
        let text = roster().covered(&keys::identity(&SEED).unwrap()).unwrap();
        let mut text = text.replace("node-2", "node-1");
        let signature = keys::sign(&SEED, &[DOMAIN, text.as_bytes()].concat()).unwrap();
        let _ = writeln!(text, "signature {}", hex(&signature));
        let found = SignedRoster::open(&text, &keys::identity(&SEED).unwrap()).unwrap_err();
        assert!(
            matches!(&found, RosterError::Malformed { reason, .. } if reason.contains("name")),
            "{found}"
        );
    }

    #[test]
    fn every_changed_cut_or_added_byte_is_refused() {
        let text = roster().sign(&SEED).unwrap();
        let signer = keys::identity(&SEED).unwrap();
        for at in 0..text.len() {
            assert!(
                SignedRoster::open(&text[..at], &signer).is_err(),
                "cut at {at}"
            );
            let mut bytes = text.clone().into_bytes();
            for bit in 0..7 {
                bytes[at] ^= 1 << bit;
                if let Ok(changed) = std::str::from_utf8(&bytes) {
                    assert!(SignedRoster::open(changed, &signer).is_err(), "byte {at}");
                }
                bytes[at] ^= 1 << bit;
            }
        }
        for added in ["\n", " ", "member", "x\n"] {
            assert!(SignedRoster::open(&format!("{text}{added}"), &signer).is_err());
        }
    }

    #[test]
    fn a_roster_of_another_operator_names_both_keys() {
        let text = roster().sign(&[8; 32]).unwrap();
        let signer = keys::identity(&SEED).unwrap();
        assert_eq!(
            SignedRoster::open(&text, &signer).unwrap_err(),
            RosterError::OtherSigner {
                pinned: hex(&signer),
                found: hex(&keys::identity(&[8; 32]).unwrap()),
            }
        );
        // The name of the right signer does not make the signature.
        let claimed = text.replace(&hex(&keys::identity(&[8; 32]).unwrap()), &hex(&signer));
        assert_eq!(
            SignedRoster::open(&claimed, &signer).unwrap_err(),
            RosterError::BadSignature
        );
    }

    #[test]
    fn other_spellings_of_the_same_are_refused_with_their_line() {
        let signed = |text: &str| {
            let signature = keys::sign(&SEED, &[DOMAIN, text.as_bytes()].concat()).unwrap();
            format!("{text}signature {}\n", hex(&signature))
        };
        let public = keys::identity(&SEED).unwrap();
        let text = roster().sign(&SEED).unwrap();
        let body = &text[..text.find("signature").unwrap()];
        assert!(SignedRoster::open(&signed(body), &public).is_ok());
        let lines: Vec<&str> = body.lines().collect();
        let swapped = {
            let mut lines = lines.clone();
            lines.swap(5, 6);
            lines.join("\n") + "\n"
        };
        let twice = format!("{body}{}\n", lines[7]);
        let cases = [
            (body.replace("serial 7", "serial 07"), 2),
            (body.replace("serial 7", "serial +7"), 2),
            (body.replace("serial 7", "serial  7"), 2),
            (body.replace("issued", "Issued"), 3),
            (body.replace('\n', "\r\n"), 1),
            (body.replace(&hex(&public), &hex(&public).to_uppercase()), 5),
            (body.replace("node-1", "node 1"), 0),
            (body.replace("node-1", ""), 0),
            (swapped, 7),
            (twice, 9),
        ];
        for (changed, expected) in cases {
            match SignedRoster::open(&signed(&changed), &public).unwrap_err() {
                RosterError::Malformed { line, .. } => {
                    assert!(expected == 0 || line == expected, "{line} of {changed}");
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn names_that_cannot_be_read_back_are_not_signed() {
        for name in ["", "a b", "a\nb", "a\u{7f}", &"x".repeat(65)] {
            let mut bad = roster();
            bad.members.insert([0; 32], name.to_owned());
            assert!(
                matches!(bad.sign(&SEED), Err(RosterError::Member { .. })),
                "{name:?}"
            );
        }
        let mut same = roster();
        same.members.insert([0; 32], "node-1".to_owned());
        assert!(matches!(same.sign(&SEED), Err(RosterError::Member { .. })));
    }

    #[test]
    fn a_serial_never_goes_down_and_is_never_two_rosters() {
        let roster = roster();
        let taken = |serial, hash| Some(Taken { serial, hash });
        let now = 1_500_000;
        assert_eq!(roster.take([1; 32], now, None).unwrap().serial, 7);
        assert!(roster.take([1; 32], now, taken(6, [2; 32])).is_ok());
        assert!(roster.take([1; 32], now, taken(7, [1; 32])).is_ok());
        assert_eq!(
            roster.take([1; 32], now, taken(7, [2; 32])).unwrap_err(),
            RosterError::TwoOfASerial { serial: 7 }
        );
        assert_eq!(
            roster.take([1; 32], now, taken(8, [1; 32])).unwrap_err(),
            RosterError::OlderSerial { serial: 7, last: 8 }
        );
        assert_eq!(
            roster.take([1; 32], 2_000_000, None).unwrap_err(),
            RosterError::Expired { since: 0 }
        );
        assert_eq!(
            roster.take([1; 32], 913_599, None).unwrap_err(),
            RosterError::NotYet { ahead: 86_401 }
        );
    }
}
