//! The changes behind the base of a keystore: one record a commit, appended and synced, so that a commit costs what it
//! changes.
//!
//! ```text
//! 0   u32 length n of what is sealed, tag included | u32 zero
//! 8   u64 generation: one more than of the record before, or of the base
//! 16  salt 32, random
//! 48  sealed change n, AAD = vault id ‖ u64 epoch ‖ bytes 0..48 ‖ link
//! ```
//! With `E` of the base (`envelope.rs`), `C = Expand(E, "aegis/v2/keystore-changes")` and `L = Expand(E, "aegis/v2/keystore-link")`:
//! `key = Expand(Extract(salt, C), "aegis/v2/change")`, zero nonce, and `link' = HMAC(L, link ‖ record)`; the first link is
//! zero. A fresh salt a record, so no key seals two messages, whatever was cut off or put back in between. Generation and
//! link find records that were cut out, repeated, moved or mixed with those of another history; a base has an epoch key of
//! its own, so no record opens behind another one.
//!
//! A prefix is whole: that the last records were cut off shows in the audit log, where each generation is on record. The
//! last record may be torn by a crash: it was not committed, and the next commit writes a new base.

use aegis_memory::Pages;

use crate::error::{Result, VaultError};
use crate::format::chunk::GcmKey;
use crate::kdf::{self, Prk};
use crate::secret::{self, Secret};

pub(crate) const RECORD: usize = 48;
const TAG: usize = 16;
/// A larger change is written as a new base.
pub(crate) const CHANGE_MAX: usize = 1 << 30;

/// The place behind a change, and what seals the next one.
pub(crate) struct Chain {
    key: Secret<32>,
    linking: Secret<32>,
    place: [u8; 24],
    link: [u8; 32],
    pub generation: u64,
}

/// Memory for the plaintext of a change, used again for the next one.
#[derive(Default)]
pub(crate) struct Scratch(Option<Pages>);

impl Scratch {
    fn take(&mut self, len: usize) -> Result<&mut [u8]> {
        let known = self.0.take().filter(|pages| pages.len() >= len);
        let pages = if let Some(pages) = known {
            pages
        } else {
            let size = len.next_power_of_two().max(4096);
            Pages::new(size).map_err(VaultError::memory(size))?
        };
        Ok(&mut self.0.insert(pages)[..len])
    }
}

/// What follows a place.
pub(crate) enum Next<'s> {
    End,
    /// The plaintext of a change, and its bytes in the file.
    Change(&'s [u8], usize),
    /// The file ends in something that is no whole record: a commit that was not finished.
    Torn,
}

impl Chain {
    /// The place behind a base, whose epoch key made `prk`.
    pub fn new(prk: &Prk, place: [u8; 24], generation: u64) -> Result<Self> {
        Ok(Self {
            key: prk.expand(&[b"aegis/v2/keystore-changes"])?,
            linking: prk.expand(&[b"aegis/v2/keystore-link"])?,
            place,
            link: [0; 32],
            generation,
        })
    }

    fn sealer(&self, salt: &[u8]) -> Result<GcmKey> {
        let prk = Prk::extract(salt, self.key.expose());
        GcmKey::new(&prk.expand(&[b"aegis/v2/change"])?)
    }

    fn aad(&self, front: &[u8]) -> Vec<u8> {
        [&self.place[..], front, &self.link].concat()
    }

    /// The record of a change, and the link behind it; the place is still before it until it is durable.
    pub fn seal(&self, mut plain: Pages) -> Result<(Vec<u8>, [u8; 32])> {
        let length = u32::try_from(plain.len() + TAG).map_err(|_| VaultError::KeystoreFull {
            bytes: plain.len() as u64,
            max: CHANGE_MAX as u64,
        })?;
        let salt = secret::random::<32>()?;
        let mut out = Vec::with_capacity(RECORD + plain.len() + TAG);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.generation + 1).to_le_bytes());
        out.extend_from_slice(&salt);
        let tag = self
            .sealer(&salt)?
            .seal([0; 12], &self.aad(&out), &mut plain)?;
        out.extend_from_slice(&plain);
        out.extend_from_slice(&tag);
        let link = kdf::mac(&self.linking, &[&self.link, &out]);
        Ok((out, link))
    }

    /// Goes on behind a change that is durable.
    pub fn advance(&mut self, link: [u8; 32]) {
        self.link = link;
        self.generation += 1;
    }

    /// The change at the start of `rest`, the file from this place to its end; the place is behind it then.
    ///
    /// # Errors
    /// Something that is not the end of the file is no record that follows.
    pub fn open<'s>(&mut self, rest: &[u8], scratch: &'s mut Scratch) -> Result<Next<'s>> {
        if rest.is_empty() {
            return Ok(Next::End);
        }
        // A file may get its new length before its bytes.
        if rest.len() < RECORD || rest.iter().all(|byte| *byte == 0) {
            return Ok(Next::Torn);
        }
        let corrupt = || VaultError::KeystoreCorrupt {
            reason: format!("the change of generation {}", self.generation + 1),
        };
        let (front, sealed) = rest.split_at(RECORD);
        let length = u32::from_le_bytes([front[0], front[1], front[2], front[3]]) as usize;
        if !(TAG..=CHANGE_MAX + TAG).contains(&length) || front[4..8] != [0; 4] {
            return Err(corrupt());
        }
        if sealed.len() < length {
            return Ok(Next::Torn);
        }
        let (text, tag) = sealed[..length].split_at(length - TAG);
        let plain = scratch.take(text.len())?;
        let key = self.sealer(&front[16..])?;
        let follows = front[8..16] == (self.generation + 1).to_le_bytes();
        let opened = key.open([0; 12], &self.aad(front), text, tag, plain);
        if opened.is_none() || !follows {
            return if sealed.len() == length {
                Ok(Next::Torn)
            } else {
                Err(corrupt())
            };
        }
        let whole = RECORD + length;
        self.advance(kdf::mac(&self.linking, &[&self.link, &rest[..whole]]));
        Ok(Next::Change(plain, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new(&Prk::extract(b"test", b"epoch key"), [1; 24], 7).unwrap()
    }

    fn append(chain: &mut Chain, text: &[u8]) -> Vec<u8> {
        let mut plain = Pages::new(text.len()).unwrap();
        plain.copy_from_slice(text);
        let (record, link) = chain.seal(plain).unwrap();
        chain.advance(link);
        record
    }

    /// The texts there are, and whether the end is torn.
    fn read(mut bytes: &[u8]) -> Result<(Vec<Vec<u8>>, bool)> {
        let (mut chain, mut scratch) = (chain(), Scratch::default());
        let mut found = Vec::new();
        loop {
            match chain.open(bytes, &mut scratch)? {
                Next::End => return Ok((found, false)),
                Next::Torn => return Ok((found, true)),
                Next::Change(plain, whole) => {
                    found.push(plain.to_vec());
                    bytes = &bytes[whole..];
                }
            }
        }
    }

    fn three() -> Vec<Vec<u8>> {
        let mut chain = chain();
        ["one", "two", "three"]
            .map(|text| append(&mut chain, text.as_bytes()))
            .to_vec()
    }

    fn texts(n: usize) -> Vec<Vec<u8>> {
        let all = ["one", "two", "three"].map(|text| text.as_bytes().to_vec());
        all[..n].to_vec()
    }

    #[test]
    fn changes_are_read_in_order_and_a_cut_anywhere_leaves_whole_ones() {
        let records = three();
        let bytes = records.concat();
        assert_eq!(read(&bytes).unwrap(), (texts(3), false));
        let ends = [
            0,
            records[0].len(),
            records[0].len() + records[1].len(),
            bytes.len(),
        ];
        for len in 0..bytes.len() {
            let whole = ends.iter().rposition(|end| *end <= len).unwrap();
            assert_eq!(
                read(&bytes[..len]).unwrap(),
                (texts(whole), ends[whole] != len),
                "{len}"
            );
            // The length before the bytes.
            let mut zeros = bytes[..len].to_vec();
            zeros.resize(bytes.len(), 0);
            if zeros != bytes && len >= ends[2] {
                assert_eq!(read(&zeros).unwrap(), (texts(2), true), "zeros from {len}");
            }
        }
    }

    #[test]
    fn an_altered_byte_is_never_read() {
        let records = three();
        let bytes = records.concat();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let at = bit / 8;
            let before = usize::from(at >= records[0].len())
                + usize::from(at >= records[0].len() + records[1].len());
            if let Ok((found, torn)) = read(&bad) {
                assert!(torn && found == texts(before), "bit {bit}");
            }
        }
    }

    #[test]
    fn records_moved_repeated_or_of_another_history_are_refused() {
        let [a, b, c]: [Vec<u8>; 3] = three().try_into().unwrap();
        let other = three();
        for mixed in [
            [&b, &a, &c],
            [&a, &a, &b],
            [&a, &c, &b],
            [&a, &other[1], &c],
            [&other[0], &b, &c],
        ] {
            let bytes: Vec<u8> = mixed.into_iter().flatten().copied().collect();
            assert!(read(&bytes).is_err());
        }
        // At the end it could be torn: then it is not there.
        let last: Vec<u8> = [&a[..], &other[1]].concat();
        assert_eq!(read(&last).unwrap(), (texts(1), true));
    }

    #[test]
    fn one_change_sealed_twice_shares_nothing() {
        let (a, b) = (three(), three());
        assert_ne!(a[0][16..], b[0][16..]);
        assert_ne!(a[0][48..51], b[0][48..51]);
    }
}
