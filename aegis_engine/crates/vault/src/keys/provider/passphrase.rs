//! A passphrase, stretched by Argon2id (RFC 9106).
//!
//! Parameters are fixed here, stored in the keystore and bounded when they are read: `version 1 ‖ u32 memory KiB ‖
//! u32 passes ‖ u32 lanes ‖ salt 16`, little-endian. Auto-tuned costs made files unreadable elsewhere (rage #642).

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{KeyProvider, Kind, refuse};
use crate::error::{Result, VaultError};
use crate::secret::{self, Secret};

/// RFC 9106 §4, second recommended option: 64 MiB, 3 passes, 4 lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What a hostile keystore can cost: 1 GiB, 16 passes.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
const ENCODED: usize = 1 + 4 * 3 + 16;

/// A passphrase; any bytes but none, taken as they are (no Unicode normalisation).
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}

impl Passphrase {
    /// Takes the bytes over.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self> {
        if bytes.is_empty() {
            return Err(refuse("the passphrase is empty; give at least one byte"));
        }
        Ok(Self(bytes))
    }
}

impl KeyProvider for Passphrase {
    fn kind(&self) -> Kind {
        Kind::Passphrase
    }

    fn new_params(&self) -> Result<Vec<u8>> {
        let mut out = vec![1];
        for value in [MEMORY_KIB, PASSES, LANES] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&secret::random::<16>()?);
        Ok(out)
    }

    fn key(&self, params: &[u8]) -> Result<Secret<32>> {
        let (memory, passes, lanes, salt) = decode(params)?;
        let params = Params::new(memory, passes, lanes, Some(32))
            .map_err(|e| refuse(format!("Argon2id parameters of the keystore: {e}")))?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Secret::try_write(|out| {
            argon
                .hash_password_into(&self.0, &salt, &mut out[..])
                .map_err(|e| refuse(format!("Argon2id: {e}")))
        })
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<(u32, u32, u32, [u8; 16])> {
    let unsupported = |detail: String| VaultError::UnsupportedFormat {
        what: "keystore.akv".to_owned(),
        detail,
    };
    if bytes.len() != ENCODED || bytes[0] != 1 {
        return Err(unsupported("passphrase parameters".to_owned()));
    }
    let word = |at: usize| {
        let mut out = [0; 4];
        out.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(out)
    };
    let (memory, passes, lanes) = (word(1), word(5), word(9));
    // The product of the bounds must not overflow Argon2's own check either: 8 blocks a lane at least.
    if !(8 * lanes.clamp(1, LANES_MAX)..=MEMORY_KIB_MAX).contains(&memory)
        || !(1..=PASSES_MAX).contains(&passes)
        || !(1..=LANES_MAX).contains(&lanes)
    {
        return Err(unsupported(format!(
            "Argon2id cost of {memory} KiB, {passes} passes, {lanes} lanes"
        )));
    }
    let mut salt = [0; 16];
    salt.copy_from_slice(&bytes[13..]);
    Ok((memory, passes, lanes, salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &[u8]) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_vec())).unwrap()
    }

    #[test]
    fn argon2id_gives_the_value_of_rfc_9106() {
        // RFC 9106 §5.3 with secret and associated data, through the crate as it is configured here.
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .build()
            .unwrap();
        let argon = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params);
        let mut out = [0; 32];
        argon
            .unwrap()
            .hash_password_into(&[1; 32], &[2; 16], &mut out)
            .unwrap();
        let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
        assert_eq!(crate::vault::hex(&out), expected);
    }

    #[test]
    fn the_same_parameters_give_the_same_key_and_others_another() {
        let one = passphrase(b"correct horse");
        let params = one.new_params().unwrap();
        assert_eq!(one.key(&params).unwrap(), one.key(&params).unwrap());
        assert_ne!(
            one.key(&params).unwrap(),
            one.key(&one.new_params().unwrap()).unwrap()
        );
        assert_ne!(
            one.key(&params).unwrap(),
            passphrase(b"correct hors").key(&params).unwrap()
        );
    }

    #[test]
    fn parameters_that_would_exhaust_memory_or_time_are_refused() {
        let one = passphrase(b"p");
        let good = one.new_params().unwrap();
        for (at, value) in [
            (1, MEMORY_KIB_MAX + 1),
            (1, u32::MAX),
            (1, 7),
            (5, 0),
            (5, PASSES_MAX + 1),
            (9, 0),
            (9, LANES_MAX + 1),
            (9, u32::MAX),
        ] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(
                matches!(one.key(&bad), Err(VaultError::UnsupportedFormat { .. })),
                "{at} {value}"
            );
        }
        for len in 0..good.len() {
            assert!(one.key(&good[..len]).is_err());
        }
    }

    #[test]
    fn an_empty_passphrase_is_refused() {
        assert!(Passphrase::new(Zeroizing::new(Vec::new())).is_err());
    }
}
