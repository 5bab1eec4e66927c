//! A client's state as bytes. They hold secrets: the caller seals them.

use zeroize::Zeroizing;

use super::{ClientLimits, ClientRun, Member, Phase, Roster, Round, Sums};
use crate::error::SecAggError;
use crate::keys::SEALED_LEN;
use crate::message::{
    read_names, read_plan, read_sealed, read_shape, write_names, write_plan, write_sealed,
    write_shape,
};
use crate::secret::Key32;
use crate::shamir::{SHARE_LEN, Share};
use crate::wire::{Kind, Reader, Writer};

impl ClientRun {
    /// Everything needed to go on in another process; about 260 bytes for each client of the cohort, never the
    /// update. Seal the bytes, and store them before the answer they belong to is sent.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(Kind::ClientState, self.run, self.last_round, self.node);
        writer.reserve(self.size_bound());
        writer
            .u64(self.answers)
            .bytes(&self.identity[..])
            .bytes(&self.channel[..]);
        writer
            .u32(self.limits.min_cohort)
            .u32(self.limits.min_threshold)
            .u32(self.limits.colluding_percent)
            .u32(self.limits.min_honest)
            .u8(self.limits.require_commit.into())
            .bytes(&self.limits.policy)
            .u8(self.limits.same_policy.into());
        writer.u8(self.limits.roster.is_some().into());
        if let Some(roster) = &self.limits.roster {
            writer.count(roster.len());
            for identity in roster {
                writer.bytes(identity);
            }
        }
        writer.u8(self.limits.sums.is_some().into());
        if let Some(sums) = &self.limits.sums {
            writer.u64(sums.weight_max).u64(sums.metric_max);
            write_names(&mut writer, &sums.metrics);
        }
        match &self.round {
            None => {
                writer.u8(0);
            }
            Some(round) => write_round(&mut writer, round),
        }
        Zeroizing::new(writer.finish())
    }

    /// Reads what [`ClientRun::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`SecAggError::Malformed`] for anything else; plan errors.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecAggError> {
        let (mut reader, header) = Reader::open(bytes, Kind::ClientState)?;
        let answers = reader.u64()?;
        let (identity, channel) = (Key32::new(reader.array()?), Key32::new(reader.array()?));
        let (min_cohort, min_threshold) = (reader.u32()?, reader.u32()?);
        let (colluding_percent, min_honest) = (reader.u32()?, reader.u32()?);
        let require_commit = reader.flag()?;
        let (policy, same_policy) = (reader.array()?, reader.flag()?);
        let roster = if reader.flag()? {
            Some(Roster::from_iter(reader.keys()?))
        } else {
            None
        };
        let sums = if reader.flag()? {
            Some(Sums {
                weight_max: reader.u64()?,
                metric_max: reader.u64()?,
                metrics: read_names(&mut reader)?,
            })
        } else {
            None
        };
        let round = read_round(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            run: header.run,
            node: header.node,
            limits: ClientLimits {
                min_cohort,
                min_threshold,
                roster,
                colluding_percent,
                min_honest,
                require_commit,
                policy,
                same_policy,
                sums,
            },
            identity,
            channel,
            last_round: header.round,
            answers,
            round,
        })
    }

    fn size_bound(&self) -> usize {
        let roster = self
            .limits
            .roster
            .as_ref()
            .map_or(0, |roster| roster.len() * 32);
        let names = |names: &[String]| -> usize { names.iter().map(|name| name.len() + 4).sum() };
        let sums = self.limits.sums.as_ref();
        let sums = sums.map_or(0, |sums| names(&sums.metrics));
        let round = self.round.as_ref().map_or(0, |round| {
            names(&round.plan.metrics) + round.near.len() * (MEMBER_LEN + 8 + SEALED_LEN)
        });
        1024 + roster + sums + round
    }
}

const MEMBER_LEN: usize = 8 + 4 + 3 * 32;

fn write_round(writer: &mut Writer, round: &Round) {
    let phase = match &round.phase {
        Phase::Shared { .. } => 1,
        Phase::Masked { .. } => 2,
    };
    writer.u8(phase);
    write_shape(writer, &round.shape);
    write_plan(writer, &round.plan);
    writer
        .u32(round.n)
        .u32(round.index)
        .bytes(&round.transcript)
        .bytes(&round.own_share.to_bytes()[..]);
    writer.count(round.near.len());
    for member in &round.near {
        writer
            .u64(member.node)
            .u32(member.index)
            .bytes(&member.identity)
            .bytes(&member.channel)
            .bytes(&member.root[..]);
    }
    match &round.phase {
        Phase::Shared {
            mask_secret,
            self_seed,
            sealed,
        } => {
            writer.bytes(&mask_secret[..]).bytes(&self_seed[..]);
            write_sealed(writer, sealed);
        }
        Phase::Masked {
            shares,
            binding,
            committed,
            answered,
        } => {
            writer.bytes(binding);
            for hash in [committed, answered] {
                writer
                    .u8(hash.is_some().into())
                    .bytes(&hash.unwrap_or_default());
            }
            writer.count(shares.len());
            for (node, pair) in shares {
                writer.u64(*node);
                for share in pair {
                    writer.bytes(&share.to_bytes()[..]);
                }
            }
        }
    }
}

fn read_share(reader: &mut Reader) -> Result<Share, SecAggError> {
    let share = Zeroizing::new(reader.array::<SHARE_LEN>()?);
    Share::from_bytes(&share).ok_or_else(|| reader.bad("a share is not a field element"))
}

fn read_hash(reader: &mut Reader) -> Result<Option<[u8; 32]>, SecAggError> {
    let (given, hash) = (reader.flag()?, reader.array()?);
    if !given && hash != [0; 32] {
        return Err(reader.bad("a hash that is not there is not zero"));
    }
    Ok(given.then_some(hash))
}

fn read_round(reader: &mut Reader) -> Result<Option<Round>, SecAggError> {
    let phase = reader.u8()?;
    if phase == 0 {
        return Ok(None);
    }
    let shape = read_shape(reader)?;
    let plan = read_plan(reader)?;
    plan.width()?;
    let (n, index) = (reader.u32()?, reader.u32()?);
    let transcript = reader.array()?;
    let own_share = read_share(reader)?;
    let near = reader.nodes(MEMBER_LEN, |reader, node| {
        Ok(Member {
            node,
            index: reader.u32()?,
            identity: reader.array()?,
            channel: reader.array()?,
            root: Key32::new(reader.array()?),
        })
    })?;
    let phase = match phase {
        1 => {
            let mask_secret = Key32::new(reader.array()?);
            Phase::Shared {
                mask_secret,
                self_seed: Key32::new(reader.array()?),
                sealed: read_sealed(reader)?,
            }
        }
        2 => {
            let binding = reader.array()?;
            let (committed, answered) = (read_hash(reader)?, read_hash(reader)?);
            let shares = reader.nodes(8 + 2 * SHARE_LEN, |reader, node| {
                Ok((node, [read_share(reader)?, read_share(reader)?]))
            })?;
            Phase::Masked {
                shares,
                binding,
                committed,
                answered,
            }
        }
        _ => return Err(reader.bad("unknown phase")),
    };
    Ok(Some(Round {
        shape,
        plan,
        n,
        index,
        near,
        transcript,
        own_share,
        phase,
    }))
}
