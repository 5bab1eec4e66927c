//! A client's state as bytes. They hold secrets: the caller seals them.

use zeroize::Zeroizing;

use super::{ClientLimits, ClientRun, Member, Phase, Roster, Round};
use crate::SecAggError;
use crate::keys::{Key32, SEALED_LEN};
use crate::message::{read_plan, read_sealed, write_plan, write_sealed};
use crate::shamir::{SHARE_LEN, Share};
use crate::wire::{Kind, Reader, Writer};

impl ClientRun {
    /// Everything needed to go on in another process; about 200 bytes for each client of the cohort, never the
    /// update. Seal the bytes, and store them before the answer they belong to is sent.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(Kind::ClientState, self.run, self.last_round, self.node);
        writer.reserve(self.size_bound());
        writer.bytes(&self.identity[..]).bytes(&self.channel[..]);
        writer
            .u32(self.limits.min_cohort)
            .u32(self.limits.min_threshold);
        writer.u8(self.limits.roster.is_some().into());
        if let Some(roster) = &self.limits.roster {
            writer.count(roster.len());
            for identity in roster {
                writer.bytes(identity);
            }
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
        let (identity, channel) = (Key32::new(reader.array()?), Key32::new(reader.array()?));
        let (min_cohort, min_threshold) = (reader.u32()?, reader.u32()?);
        let roster = match reader.u8()? {
            0 => None,
            1 => Some(Roster::from_iter(reader.keys()?)),
            _ => return Err(reader.bad("a flag is neither 0 nor 1")),
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
            },
            identity,
            channel,
            last_round: header.round,
            round,
        })
    }

    fn size_bound(&self) -> usize {
        let roster = self
            .limits
            .roster
            .as_ref()
            .map_or(0, |roster| roster.len() * 32);
        let round = self.round.as_ref().map_or(0, |round| {
            let names: usize = round.plan.metrics.iter().map(|name| name.len() + 4).sum();
            names + round.cohort.len() * (72 + 8 + SEALED_LEN)
        });
        1024 + roster + round
    }
}

fn write_round(writer: &mut Writer, round: &Round) {
    let phase = match &round.phase {
        Phase::Shared { .. } => 1,
        Phase::Masked { .. } => 2,
    };
    writer.u8(phase).u32(round.threshold);
    write_plan(writer, &round.plan);
    writer
        .bytes(&round.transcript)
        .bytes(&round.own_share.to_bytes()[..]);
    writer.count(round.cohort.len());
    for member in &round.cohort {
        writer
            .u64(member.node)
            .bytes(&member.identity)
            .bytes(&member.channel);
    }
    match &round.phase {
        Phase::Shared {
            mask_secret,
            self_seed,
        } => {
            writer.bytes(&mask_secret[..]).bytes(&self_seed[..]);
        }
        Phase::Masked { sealed, answered } => {
            writer
                .u8(answered.is_some().into())
                .bytes(&answered.unwrap_or_default());
            write_sealed(writer, sealed);
        }
    }
}

fn read_round(reader: &mut Reader) -> Result<Option<Round>, SecAggError> {
    let phase = reader.u8()?;
    if phase == 0 {
        return Ok(None);
    }
    let threshold = reader.u32()?;
    let plan = read_plan(reader)?;
    plan.width()?;
    let transcript = reader.array()?;
    let share = Zeroizing::new(reader.array::<SHARE_LEN>()?);
    let own_share =
        Share::from_bytes(&share).ok_or_else(|| reader.bad("a share is not a field element"))?;
    let cohort = reader.nodes(72, |reader, node| {
        Ok(Member {
            node,
            identity: reader.array()?,
            channel: reader.array()?,
        })
    })?;
    let phase = match phase {
        1 => {
            let mask_secret = Key32::new(reader.array()?);
            Phase::Shared {
                mask_secret,
                self_seed: Key32::new(reader.array()?),
            }
        }
        2 => {
            let (flag, hash) = (reader.u8()?, reader.array()?);
            let answered = match flag {
                0 if hash == [0; 32] => None,
                1 => Some(hash),
                _ => return Err(reader.bad("a flag is neither 0 nor 1")),
            };
            Phase::Masked {
                sealed: read_sealed(reader)?,
                answered,
            }
        }
        _ => return Err(reader.bad("unknown phase")),
    };
    Ok(Some(Round {
        threshold,
        plan,
        cohort,
        transcript,
        own_share,
        phase,
    }))
}
