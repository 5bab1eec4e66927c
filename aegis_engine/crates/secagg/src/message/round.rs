//! The messages of one round: shares, masked vectors, unmasking.

use super::sets::Sets;
use crate::error::SecAggError;
use crate::keys::{self, Binding, SEALED_LEN, Sealed};
use crate::ring::RingWidth;
use crate::shamir::{SHARE_LEN, Share};
use crate::wire::{Header, Kind, Reader, Writer};

/// A client's mask key of one round, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoundKey {
    pub node: u64,
    pub mask_key: [u8; 32],
    pub signature: [u8; 64],
}

const ROUND_KEY_LEN: usize = 8 + 32 + 64;

impl RoundKey {
    /// What the signature covers; the transcript binds it to the cohort, threshold and plan of the round.
    pub(crate) fn signed(header: &Header, transcript: &[u8; 32], mask_key: &[u8; 32]) -> Vec<u8> {
        let mut message = b"aegis/secagg/v2/sign/round-key".to_vec();
        for part in [header.run, header.round, header.node] {
            message.extend_from_slice(&part.to_le_bytes());
        }
        message.extend_from_slice(transcript);
        message.extend_from_slice(mask_key);
        message
    }

    fn write_all(writer: &mut Writer, keys: &[Self]) {
        writer.count(keys.len());
        for key in keys {
            writer
                .u64(key.node)
                .bytes(&key.mask_key)
                .bytes(&key.signature);
        }
    }
}

/// Client to server: the round's mask key, by which its secret is known again, the same of the seed, and two sealed shares for
/// each other client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareReply {
    pub key: RoundKey,
    /// For the server alone, which could spoil its own sum in easier ways than by changing it: so it is not signed.
    pub seed_check: [u8; 32],
    pub sealed: Vec<(u64, Sealed)>,
}

pub(crate) fn write_sealed(writer: &mut Writer, sealed: &[(u64, Sealed)]) {
    writer.count(sealed.len());
    for (node, sealed) in sealed {
        writer.u64(*node).bytes(sealed);
    }
}

pub(crate) fn read_sealed(reader: &mut Reader) -> Result<Vec<(u64, Sealed)>, SecAggError> {
    reader.nodes(8 + SEALED_LEN, |reader, node| Ok((node, reader.array()?)))
}

impl ShareReply {
    pub(crate) fn to_bytes(&self, run: u64, round: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::ShareReply, run, round, self.key.node);
        writer
            .bytes(&self.key.mask_key)
            .bytes(&self.key.signature)
            .bytes(&self.seed_check);
        write_sealed(&mut writer, &self.sealed);
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::ShareReply)?;
        let (mask_key, signature) = (reader.array()?, reader.array()?);
        let key = RoundKey {
            node: header.node,
            mask_key,
            signature,
        };
        let seed_check = reader.array()?;
        let sealed = read_sealed(&mut reader)?;
        reader.finish()?;
        let reply = Self {
            key,
            seed_check,
            sealed,
        };
        Ok((header, reply))
    }
}

/// Server to one client: whose masks to add, and the shares sealed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MaskedRequest {
    pub keys: Vec<RoundKey>,
    pub sealed: Vec<(u64, Sealed)>,
}

impl MaskedRequest {
    pub(crate) fn to_bytes(&self, run: u64, round: u64, node: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::MaskedRequest, run, round, node);
        RoundKey::write_all(&mut writer, &self.keys);
        write_sealed(&mut writer, &self.sealed);
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::MaskedRequest)?;
        let keys = reader.nodes(ROUND_KEY_LEN, |reader, node| {
            Ok(RoundKey {
                node,
                mask_key: reader.array()?,
                signature: reader.array()?,
            })
        })?;
        let sealed = read_sealed(&mut reader)?;
        reader.finish()?;
        Ok((header, Self { keys, sealed }))
    }
}

/// Client to server: the masked vector. Decoded without a copy; encoded by the client as it masks.
pub(crate) struct MaskedInput<'a> {
    pub packed: &'a [u8],
}

impl<'a> MaskedInput<'a> {
    /// Header, width in bytes, number of elements.
    pub(crate) const PREFIX_LEN: usize = 2 + 3 * 8 + 1 + 8;

    /// Header, width in bytes and number of elements; the packed elements follow.
    pub(crate) fn prefix(header: &Header, width: RingWidth, len: usize) -> Vec<u8> {
        let mut writer = Writer::new(Kind::MaskedInput, header.run, header.round, header.node);
        // a width is at most 8
        writer
            .u8(u8::try_from(width.bytes()).unwrap_or(8))
            .u64(len as u64);
        writer.finish()
    }

    pub(crate) fn from_bytes(
        bytes: &'a [u8],
        width: RingWidth,
        len: usize,
    ) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::MaskedInput)?;
        if usize::from(reader.u8()?) != width.bytes() || reader.u64()? != len as u64 {
            return Err(reader.bad("width or length differ from the plan"));
        }
        let packed = reader.rest();
        if packed.len() != len * width.bytes() {
            return Err(reader.bad("its vector has another length than announced"));
        }
        Ok((header, Self { packed }))
    }
}

/// Server to all clients: the sets they sign before they unmask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitRequest {
    pub sets: Sets,
}

impl CommitRequest {
    pub(crate) fn to_bytes(&self, run: u64, round: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::CommitRequest, run, round, 0);
        self.sets.write(&mut writer);
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open_broadcast(bytes, Kind::CommitRequest)?;
        let sets = Sets::read(&mut reader)?;
        reader.finish()?;
        Ok((header, Self { sets }))
    }
}

/// Client to server, for its neighbours: the sets, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub signature: [u8; 64],
}

impl Commit {
    /// What the signature covers, the sets by their hash with the transcript and the binding.
    pub(crate) fn signed(header: &Header, hash: &[u8; 32]) -> Vec<u8> {
        let mut message = b"aegis/secagg/v2/sign/commit".to_vec();
        for part in [header.run, header.round, header.node] {
            message.extend_from_slice(&part.to_le_bytes());
        }
        message.extend_from_slice(hash);
        message
    }

    /// Hash of what is agreed on: the cohort's transcript, what was worked on, and the two sets.
    pub(crate) fn hash(transcript: &[u8; 32], binding: &Binding, sets: &Sets) -> [u8; 32] {
        let mut writer = Writer::new(Kind::CommitRequest, 0, 0, 0);
        sets.write(&mut writer);
        keys::hash(
            b"aegis/secagg/v2/transcript/sets",
            &[transcript, binding, &writer.finish()],
        )
    }

    pub(crate) fn to_bytes(&self, run: u64, round: u64, node: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::Commit, run, round, node);
        writer.bytes(&self.signature);
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::Commit)?;
        let signature = reader.array()?;
        reader.finish()?;
        Ok((header, Self { signature }))
    }
}

/// Server to one client: who shared and survived, the neighbours' signatures where the round has a commit step, and
/// the share request of the next round where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnmaskRequest<'a> {
    pub sets: Sets,
    pub commits: Vec<(u64, [u8; 64])>,
    pub next: Option<&'a [u8]>,
}

impl<'a> UnmaskRequest<'a> {
    pub(crate) fn to_bytes(&self, run: u64, round: u64, node: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::UnmaskRequest, run, round, node);
        self.sets.write(&mut writer);
        writer.count(self.commits.len());
        for (node, signature) in &self.commits {
            writer.u64(*node).bytes(signature);
        }
        writer.inner(self.next);
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::UnmaskRequest)?;
        let sets = Sets::read(&mut reader)?;
        let commits = reader.nodes(8 + 64, |reader, node| Ok((node, reader.array()?)))?;
        let next = reader.inner()?;
        reader.finish()?;
        Ok((
            header,
            Self {
                sets,
                commits,
                next,
            },
        ))
    }
}

/// Client to server: one share for each neighbour, of its seed when it survived, of its mask secret when it dropped; and its
/// shares for the next round.
pub(crate) struct UnmaskReply<'a> {
    pub seeds: Vec<(u64, Share)>,
    pub secrets: Vec<(u64, Share)>,
    pub next: Option<&'a [u8]>,
}

impl<'a> UnmaskReply<'a> {
    pub(crate) fn to_bytes(&self, run: u64, round: u64, node: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::UnmaskReply, run, round, node);
        for list in [&self.seeds, &self.secrets] {
            writer.count(list.len());
            for (node, share) in list {
                writer.u64(*node).bytes(&share.to_bytes()[..]);
            }
        }
        writer.inner(self.next);
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::UnmaskReply)?;
        let share = |reader: &mut Reader, node| {
            let share = Share::from_bytes(&reader.array::<SHARE_LEN>()?);
            Ok((
                node,
                share.ok_or_else(|| reader.bad("a share is not a field element"))?,
            ))
        };
        let seeds = reader.nodes(8 + SHARE_LEN, share)?;
        let secrets = reader.nodes(8 + SHARE_LEN, share)?;
        let next = reader.inner()?;
        reader.finish()?;
        Ok((
            header,
            Self {
                seeds,
                secrets,
                next,
            },
        ))
    }
}
