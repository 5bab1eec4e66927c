//! Messages and their bytes may be put here; nothing here acts on them.
//!
//! The messages of a run and their bytes: adverts and share requests here, the steps of a round in `round`.
//!
//! Every message starts with version (2), kind, run, round and node (little-endian `u64`). Lists start
//! with a `u32` length and are sorted strictly by node.

mod round;
mod sets;

pub(crate) use round::{
    Commit, CommitRequest, MaskedInput, MaskedRequest, RoundKey, ShareReply, UnmaskReply,
    UnmaskRequest, read_sealed, write_sealed,
};
pub(crate) use sets::Sets;

use crate::error::SecAggError;
use crate::graph::Shape;
use crate::keys;
use crate::plan::{Encoding, MAX_METRICS, MAX_NAME, Plan};
use crate::wire::{Header, Kind, Reader, Writer};

/// Client to server, once a run: identity, channel key, and what its operator insists on, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advert {
    pub node: u64,
    pub identity: [u8; 32],
    pub channel: [u8; 32],
    /// Hash of the policy bundle over its data; zeros where there is none.
    pub policy: [u8; 32],
    /// Smallest cohort it takes part in.
    pub min_cohort: u32,
    pub signature: [u8; 64],
}

const ADVERT_LEN: usize = 8 + 32 + 32 + 32 + 4 + 64;

impl Advert {
    /// What the signature covers: everything, and the run.
    pub(crate) fn signed(&self, run: u64) -> Vec<u8> {
        let mut message = b"aegis/secagg/v2/sign/advert".to_vec();
        message.extend_from_slice(&run.to_le_bytes());
        message.extend_from_slice(&self.node.to_le_bytes());
        message.extend_from_slice(&self.identity);
        message.extend_from_slice(&self.channel);
        message.extend_from_slice(&self.policy);
        message.extend_from_slice(&self.min_cohort.to_le_bytes());
        message
    }

    /// Checks the signature under the identity it names.
    pub(crate) fn verify(&self, run: u64) -> Result<(), SecAggError> {
        keys::verify(
            self.node,
            &self.identity,
            &self.signed(run),
            &self.signature,
        )
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .bytes(&self.identity)
            .bytes(&self.channel)
            .bytes(&self.policy)
            .u32(self.min_cohort)
            .bytes(&self.signature);
    }

    fn read(reader: &mut Reader, node: u64) -> Result<Self, SecAggError> {
        Ok(Self {
            node,
            identity: reader.array()?,
            channel: reader.array()?,
            policy: reader.array()?,
            min_cohort: reader.u32()?,
            signature: reader.array()?,
        })
    }

    pub(crate) fn to_bytes(&self, run: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::Advert, run, 0, self.node);
        self.write(&mut writer);
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::Advert)?;
        if header.round != 0 {
            return Err(reader.bad("an advert belongs to no round"));
        }
        let advert = Self::read(&mut reader, header.node)?;
        reader.finish()?;
        Ok((header, advert))
    }
}

pub(crate) fn write_plan(writer: &mut Writer, plan: &Plan) {
    let encoding = &plan.encoding;
    writer
        .u64(plan.dim)
        .u32(plan.n_max)
        .u64(encoding.clip.to_bits())
        .u8(encoding.value_bits);
    writer.u64(encoding.weight_max).u64(encoding.metric_max);
    write_names(writer, &plan.metrics);
}

pub(crate) fn write_names(writer: &mut Writer, names: &[String]) {
    writer.count(names.len());
    for name in names {
        writer.count(name.len()).bytes(name.as_bytes());
    }
}

pub(crate) fn read_plan(reader: &mut Reader) -> Result<Plan, SecAggError> {
    let (dim, n_max) = (reader.u64()?, reader.u32()?);
    let encoding = Encoding {
        clip: f64::from_bits(reader.u64()?),
        value_bits: reader.u8()?,
        weight_max: reader.u64()?,
        metric_max: reader.u64()?,
    };
    let metrics = read_names(reader)?;
    Ok(Plan {
        dim,
        metrics,
        encoding,
        n_max,
    })
}

pub(crate) fn read_names(reader: &mut Reader) -> Result<Vec<String>, SecAggError> {
    let count = reader.count(4)?;
    if count > MAX_METRICS {
        return Err(reader.bad("too many metrics"));
    }
    let mut metrics = Vec::with_capacity(count);
    for _ in 0..count {
        let len = reader.count(1)?;
        if len > MAX_NAME {
            return Err(reader.bad("a metric name is too long"));
        }
        let name = std::str::from_utf8(reader.slice(len)?);
        metrics.push(
            name.map_err(|_| reader.bad("a metric name is not UTF-8"))?
                .to_owned(),
        );
    }
    Ok(metrics)
}

/// Server to all clients: the cohort of a round, the same bytes for everyone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShareRequest {
    pub shape: Shape,
    pub plan: Plan,
    pub cohort: Vec<Advert>,
}

pub(crate) fn write_shape(writer: &mut Writer, shape: &Shape) {
    writer
        .u32(shape.degree)
        .u32(shape.threshold)
        .u8(shape.commit.into());
}

pub(crate) fn read_shape(reader: &mut Reader) -> Result<Shape, SecAggError> {
    Ok(Shape {
        degree: reader.u32()?,
        threshold: reader.u32()?,
        commit: reader.flag()?,
    })
}

impl ShareRequest {
    pub(crate) fn to_bytes(&self, run: u64, round: u64) -> Vec<u8> {
        let mut writer = Writer::new(Kind::ShareRequest, run, round, 0);
        write_shape(&mut writer, &self.shape);
        write_plan(&mut writer, &self.plan);
        writer.count(self.cohort.len());
        for advert in &self.cohort {
            writer.u64(advert.node);
            advert.write(&mut writer);
        }
        writer.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Header, Self), SecAggError> {
        let (mut reader, header) = Reader::open_broadcast(bytes, Kind::ShareRequest)?;
        let shape = read_shape(&mut reader)?;
        let plan = read_plan(&mut reader)?;
        let cohort = reader.nodes(ADVERT_LEN, Advert::read)?;
        reader.finish()?;
        Ok((
            header,
            Self {
                shape,
                plan,
                cohort,
            },
        ))
    }
}
