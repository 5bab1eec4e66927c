//! Mask step: check the neighbours' round keys and shares, then encode, mask and pack in one pass.

use super::{ClientRun, Phase, Round};
use crate::encode::Encoder;
use crate::error::SecAggError;
use crate::keys::{self, Binding, Exchange, Sealed};
use crate::mask::{CHUNK, Mask, Scratch, apply};
use crate::message::{MaskedInput, MaskedRequest, RoundKey};
use crate::ring::{Lane, RingWidth, pack};
use crate::shamir::{SHARE_LEN, Share};
use crate::wire::Header;
use zeroize::Zeroizing;

const STEP: &str = "masked input";
const NO_ROUND: SecAggError = SecAggError::WrongStep {
    step: STEP,
    reason: "no round was begun; the share step comes first",
};

/// A masked request that holds: the neighbours' shares, and the masks of the vector.
struct Prepared {
    header: Header,
    shares: Vec<(u64, [Share; 2])>,
    masks: Vec<Mask>,
}

impl ClientRun {
    /// Answers a masked request with the masked vector of `update` (plan order, `dim` values; clipped and noised
    /// before), `weight` and `metrics` (plan order; what is out of range counts as its bound). `binding` is a hash of all that
    /// the client was sent to work on: only the vectors of clients with the same one can be summed. Afterwards the round's own
    /// secrets are wiped.
    ///
    /// # Errors
    /// As [`ClientRun::check_masked`]; [`SecAggError::BadUpdate`] for a value that is not finite.
    /// A refused call changes nothing.
    pub fn masked_input(
        &mut self,
        request: &[u8],
        binding: &Binding,
        update: &[f32],
        weight: u64,
        metrics: &[i64],
    ) -> Result<Vec<u8>, SecAggError> {
        let mut out = vec![0; self.masked_len(update.len())?];
        self.masked_input_into(request, binding, update, weight, metrics, &mut out)?;
        Ok(out)
    }

    /// Says whether a masked request would be answered, for an update of `dim` values: every check there is but those of the
    /// update's values. It changes nothing, and belongs before anything is read, charged or trained.
    ///
    /// # Errors
    /// [`SecAggError::AlreadyAnswered`] the second time in a round, [`SecAggError::NotEnoughClients`] below the
    /// threshold, [`SecAggError::BadSignature`], [`SecAggError::KeyAgreement`], [`SecAggError::ShareRejected`];
    /// as [`ClientRun::masked_len`].
    pub fn check_masked(&self, request: &[u8], dim: usize) -> Result<(), SecAggError> {
        self.prepare(request, &[0; 32])?; // which keys come out depends on the binding, whether they do does not
        self.masked_len(dim).map(drop)
    }

    /// Bytes of the masked input of the round in progress, for an update of `dim` values. The plan is the server's and may
    /// name any `dim`: nothing is made of that size before the client's own says the same.
    ///
    /// # Errors
    /// [`SecAggError::WrongStep`] where there is no round, [`SecAggError::BadUpdate`] for a plan of another `dim`; plan errors.
    pub fn masked_len(&self, dim: usize) -> Result<usize, SecAggError> {
        let plan = self.plan().ok_or(NO_ROUND)?;
        if dim as u64 != plan.dim {
            let reason = "its length differs from the plan's dim";
            return Err(SecAggError::BadUpdate { reason });
        }
        let too_large = SecAggError::InvalidPlan {
            reason: "vector does not fit this machine",
        };
        let packed = plan.len()?.checked_mul(plan.width()?.bytes());
        packed
            .and_then(|packed| packed.checked_add(MaskedInput::PREFIX_LEN))
            .ok_or(too_large)
    }

    /// [`ClientRun::masked_input`] into a buffer of [`ClientRun::masked_len`] bytes, so that nothing is copied on the way out.
    ///
    /// # Errors
    /// As there; [`SecAggError::BadUpdate`] for a buffer of another length.
    pub fn masked_input_into(
        &mut self,
        request: &[u8],
        binding: &Binding,
        update: &[f32],
        weight: u64,
        metrics: &[i64],
        out: &mut [u8],
    ) -> Result<(), SecAggError> {
        let Prepared {
            header,
            shares,
            masks,
        } = self.prepare(request, binding)?;
        let len = self.masked_len(update.len())?;
        let plan = self.plan().ok_or(NO_ROUND)?;
        let encoder = Encoder::new(update, weight, metrics, plan)?;
        if out.len() != len {
            let reason = "the buffer has another length than the masked input";
            return Err(SecAggError::BadUpdate { reason });
        }
        let (width, len) = (plan.width()?, plan.len()?);
        let prefix = MaskedInput::prefix(&header, width, len);
        let (start, packed) = out.split_at_mut(prefix.len());
        start.copy_from_slice(&prefix);
        let filled = if width.bytes() <= 4 {
            mask_vector::<u32>(width, &encoder, &masks, packed)
        } else {
            mask_vector::<u64>(width, &encoder, &masks, packed)
        };
        if filled.is_err() {
            out.fill(0); // what is there is not wholly masked
            return filled;
        }
        if let Some(round) = &mut self.round {
            round.phase = Phase::Masked {
                shares,
                binding: *binding,
                committed: None,
                answered: None,
            };
            self.answers += 1;
        }
        Ok(())
    }

    /// All that is checked before a vector is masked, and the masks.
    fn prepare(&self, request: &[u8], binding: &Binding) -> Result<Prepared, SecAggError> {
        let (header, parsed) = MaskedRequest::from_bytes(request)?;
        let round = self.current(STEP, &header)?;
        let Phase::Shared {
            mask_secret,
            self_seed,
            ..
        } = &round.phase
        else {
            return Err(SecAggError::AlreadyAnswered {
                step: STEP,
                round: header.round,
            });
        };
        self.addressed(STEP, &header)?;
        let mask_secret = Exchange::new(mask_secret)?;
        self.check_keys(&header, round, &parsed, &mask_secret.public_key()?)?;
        let shares = self.open_all(round, &parsed)?;
        let bound = self.place(round.transcript).bound(*binding);
        let mut masks = Vec::with_capacity(parsed.keys.len());
        masks.push(Mask::new(
            &bound.self_mask_key(self_seed, self.node)?,
            false,
        )?);
        for peer in parsed.keys.iter().filter(|key| key.node != self.node) {
            let key = bound.pair_mask_key(&mask_secret, self.node, peer.node, &peer.mask_key)?;
            // the lower id adds, the higher subtracts (Bonawitz 2017, section 4)
            masks.push(Mask::new(&key, self.node > peer.node)?);
        }
        Ok(Prepared {
            header,
            shares,
            masks,
        })
    }

    /// Neighbours, at least the threshold with this client, which is there with its own key; all signed.
    fn check_keys(
        &self,
        header: &Header,
        round: &Round,
        request: &MaskedRequest,
        own_key: &[u8; 32],
    ) -> Result<(), SecAggError> {
        let have = u32::try_from(request.keys.len()).unwrap_or(u32::MAX);
        if have < round.shape.threshold {
            return Err(SecAggError::NotEnoughClients {
                have,
                need: round.shape.threshold,
            });
        }
        if !request
            .keys
            .iter()
            .any(|key| key.node == self.node && key.mask_key == *own_key)
        {
            let reason = "this client's own round key is missing or replaced";
            return Err(SecAggError::InconsistentCohort {
                round: header.round,
                reason,
            });
        }
        for key in request.keys.iter().filter(|key| key.node != self.node) {
            let member = round.near(key.node)?;
            let sender = Header {
                node: key.node,
                ..*header
            };
            let message = RoundKey::signed(&sender, &round.transcript, &key.mask_key);
            keys::verify(key.node, &member.identity, &message, &key.signature)?;
        }
        Ok(())
    }

    /// One share pair from everyone else, each of which opens: a split view of the cohort is found here,
    /// before anything about the update leaves.
    fn open_all(
        &self,
        round: &Round,
        request: &MaskedRequest,
    ) -> Result<Vec<(u64, [Share; 2])>, SecAggError> {
        let others = request
            .keys
            .iter()
            .map(|key| key.node)
            .filter(|node| *node != self.node);
        if !others.eq(request.sealed.iter().map(|(node, _)| *node)) {
            let reason = "sealed shares and round keys name different clients";
            return Err(SecAggError::InconsistentCohort {
                round: self.last_round,
                reason,
            });
        }
        request
            .sealed
            .iter()
            .map(|(node, sealed)| Ok((*node, self.open_shares(round, *node, sealed)?)))
            .collect()
    }

    /// The pair of shares `node` sealed for this client: of its self-mask seed, then of its mask secret.
    fn open_shares(
        &self,
        round: &Round,
        node: u64,
        sealed: &Sealed,
    ) -> Result<[Share; 2], SecAggError> {
        let place = self.place(round.transcript);
        let way = (node, self.node);
        let key = place.channel_key(&round.near(node)?.root, way)?;
        let pair = place.open(&key, way, sealed)?;
        let read = |half: &[u8]| half.try_into().ok().and_then(Share::from_bytes);
        let (seed, secret) = pair.split_at(SHARE_LEN);
        match (read(seed), read(secret)) {
            (Some(seed), Some(secret)) => Ok([seed, secret]),
            _ => Err(SecAggError::ShareRejected { node }),
        }
    }
}

fn mask_vector<L: Lane + zeroize::DefaultIsZeroes>(
    width: RingWidth,
    encoder: &Encoder,
    masks: &[Mask],
    out: &mut [u8],
) -> Result<(), SecAggError> {
    let mut scratch = Scratch::new(width);
    let mut lanes = Zeroizing::new([L::default(); CHUNK]);
    for (chunk, packed) in out.chunks_mut(CHUNK * width.bytes()).enumerate() {
        let lanes = &mut lanes[..packed.len() / width.bytes()];
        encoder.fill(chunk * CHUNK, lanes);
        apply(width, lanes, chunk, masks, &mut scratch)?;
        pack(width, lanes, packed);
    }
    Ok(())
}
