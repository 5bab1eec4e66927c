//! The messages of one round: shares, masked vectors, unmasking.

use crate::SecAggError;
use crate::keys::{SEALED_LEN, Sealed};
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
        let mut message = b"aegis/secagg/v1/sign/round-key".to_vec();
        for part in [header.run, header.round, header.node] {
            message.extend_from_slice(&part.to_le_bytes());
        }
        message.extend_from_slice(transcript);
        message.extend_from_slice(mask_key);
        message
    }

    /// The canonical bytes of a list, for the transcript of the mask step.
    pub(crate) fn list(keys: &[Self]) -> Vec<u8> {
        let mut writer = Writer::new(Kind::MaskedRequest, 0, 0, 0);
        Self::write_all(&mut writer, keys);
        writer.finish()
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

/// Client to server: the round's mask key and two sealed shares for each other client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareReply {
    pub key: RoundKey,
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
        writer.bytes(&self.key.mask_key).bytes(&self.key.signature);
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
        let sealed = read_sealed(&mut reader)?;
        reader.finish()?;
        Ok((header, Self { key, sealed }))
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

/// Server to all clients: who sent a masked input, and who shared but did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnmaskRequest {
    pub survivors: Vec<u64>,
    pub dropped: Vec<u64>,
}

impl UnmaskRequest {
    pub(crate) fn to_bytes(&self, run: u64, round: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::UnmaskRequest, run, round, 0);
        for list in [&self.survivors, &self.dropped] {
            writer.count(list.len());
            for node in list {
                writer.u64(*node);
            }
        }
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open_broadcast(bytes, Kind::UnmaskRequest)?;
        let survivors = reader.nodes(8, |_, node| Ok(node))?;
        let dropped = reader.nodes(8, |_, node| Ok(node))?;
        reader.finish()?;
        Ok((header, Self { survivors, dropped }))
    }
}

/// Client to server: one share for each survivor (self-mask seed) and each dropped client (mask secret).
pub(crate) struct UnmaskReply {
    /// In the order of the survivors.
    pub seeds: Vec<(u64, Share)>,
    /// In the order of the dropped.
    pub secrets: Vec<(u64, Share)>,
}

impl UnmaskReply {
    pub(crate) fn to_bytes(&self, run: u64, round: u64, node: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::UnmaskReply, run, round, node);
        for list in [&self.seeds, &self.secrets] {
            writer.count(list.len());
            for (node, share) in list {
                writer.u64(*node).bytes(&share.to_bytes()[..]);
            }
        }
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
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
        reader.finish()?;
        Ok((header, Self { seeds, secrets }))
    }
}
