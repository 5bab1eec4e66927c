//! The file of a roster: its one spelling, written and read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use data_encoding::HEXLOWER;

use super::error::RosterError;
use super::signed::SignedRoster;

/// Larger files are not read.
pub const ROSTER_MAX: usize = 4 << 20;

const NAME_MAX: usize = 64;

fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Some("a name has 1 to 64 bytes");
    }
    name.chars()
        .any(|c| c.is_control() || c.is_whitespace())
        .then_some("a name has no spaces and no control characters")
}

/// The bytes of exactly `2 * N` lower-case digits.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

impl SignedRoster {
    /// The lines that the signature covers.
    pub(crate) fn covered(&self, signer: &[u8; 32]) -> Result<String, RosterError> {
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
            HEXLOWER.encode(signer)
        );
        for (identity, name) in &self.members {
            if let Some(reason) = name_fault(name) {
                let name = name.clone();
                return Err(RosterError::Member { name, reason });
            }
            let _ = writeln!(text, "member {} {name}", HEXLOWER.encode(identity));
        }
        Ok(text)
    }
}

/// A roster read and written again with the signature it has: for the fuzzers, who cannot sign.
#[cfg(feature = "fuzzing")]
pub(crate) fn again(text: &str) -> Option<String> {
    let (roster, signer, signature, _) = Lines::new(text).ok()?.roster().ok()?;
    let mut again = roster
        .covered(&signer)
        .expect("what was read can be written");
    let _ = writeln!(again, "signature {}", HEXLOWER.encode(&signature));
    Some(again)
}

pub(super) struct Lines<'a> {
    text: &'a str,
    /// Where the line being read starts.
    at: usize,
    number: usize,
}

pub(super) type Parsed<'a> = (SignedRoster, [u8; 32], [u8; 64], &'a str);

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, RosterError> {
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

    pub(super) fn roster(mut self) -> Result<Parsed<'a>, RosterError> {
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
