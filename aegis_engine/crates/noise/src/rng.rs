//! The generator: `ChaCha20` (RFC 8439), keyed by the operating system.

use std::fmt;
use std::process;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use zeroize::Zeroizing;

use crate::error::NoiseError;

/// A stream of random numbers. Not `Clone`: noise used twice is no noise. Key and buffer are zeroized on drop.
pub struct Rng {
    stream: ChaCha20Rng,
    key: Key,
}

enum Key {
    /// From the operating system, in this process.
    Os { process: u32 },
    /// From a number anybody may know.
    Test,
}

impl Rng {
    /// A generator keyed by 32 bytes of the operating system.
    pub fn from_os() -> Result<Self, NoiseError> {
        Ok(Self {
            stream: fresh()?,
            key: Key::Os {
                process: process::id(),
            },
        })
    }

    /// A generator whose output anybody can repeat: **protects nobody**, for tests only.
    pub fn insecure_test(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            stream: ChaCha20Rng::from_seed(key),
            key: Key::Test,
        }
    }

    /// The stream for one draw. A process made by `fork` would repeat the noise of its parent, and the difference of
    /// two results would cancel it; so it takes a key of its own first.
    pub(crate) fn stream(&mut self) -> Result<&mut ChaCha20Rng, NoiseError> {
        if let Key::Os { process } = &mut self.key
            && *process != process::id()
        {
            self.stream = fresh()?;
            *process = process::id();
        }
        Ok(&mut self.stream)
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.key {
            Key::Os { .. } => "Rng(os)",
            Key::Test => "Rng(insecure_test)",
        })
    }
}

fn fresh() -> Result<ChaCha20Rng, NoiseError> {
    let mut key = Wiped::new([0; 32]);
    SystemRandom::new()
        .fill(&mut *key)
        .map_err(|_| NoiseError::NoEntropy)?;
    Ok(keyed(&key))
}

/// A key that is cleared when it goes. [`keyed`] takes no other.
type Wiped = Zeroizing<[u8; 32]>;

fn keyed(key: &Wiped) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(**key)
}

#[cfg(test)]
mod tests {
    use chacha20::rand_core::Rng as _;

    use super::*;

    fn bytes(rng: &mut Rng) -> [u8; 64] {
        let mut out = [0; 64];
        rng.stream().unwrap().fill_bytes(&mut out);
        out
    }

    #[test]
    fn the_stream_is_chacha20() {
        // RFC 8439 appendix A.1, test vectors 1 and 2: key and nonce zero, blocks 0 and 1.
        let mut rng = Rng::insecure_test(0);
        assert_eq!(
            bytes(&mut rng)[..8],
            [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]
        );
        assert_eq!(
            bytes(&mut rng)[..8],
            [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]
        );
    }

    #[test]
    fn generators_of_the_system_never_repeat_and_test_generators_do() {
        let streams: std::collections::BTreeSet<_> = (0..1_000)
            .map(|_| bytes(&mut Rng::from_os().unwrap()))
            .collect();
        assert_eq!(streams.len(), 1_000);
        assert_eq!(
            bytes(&mut Rng::insecure_test(7)),
            bytes(&mut Rng::insecure_test(7))
        );
        assert_ne!(
            bytes(&mut Rng::insecure_test(7)),
            bytes(&mut Rng::insecure_test(8))
        );
    }

    #[test]
    fn a_forked_process_takes_a_key_of_its_own() {
        // Two generators in one state, as fork leaves them behind; the second believes it is the parent.
        let twin = |process| Rng {
            stream: ChaCha20Rng::from_seed([1; 32]),
            key: Key::Os { process },
        };
        let (mut parent, mut child) = (twin(process::id()), twin(process::id() + 1));
        assert_ne!(bytes(&mut parent), bytes(&mut child));
        assert_eq!(
            bytes(&mut parent),
            bytes(&mut {
                let mut same = twin(process::id());
                bytes(&mut same);
                same
            })
        );
        assert!(matches!(child.key, Key::Os { process } if process == process::id()));
    }

    #[test]
    fn nothing_of_the_state_is_printed() {
        assert_eq!(
            format!("{:?} {:?}", Rng::from_os().unwrap(), Rng::insecure_test(5)),
            "Rng(os) Rng(insecure_test)"
        );
    }

    /// Both hold only when the `zeroize` feature of the cipher is on.
    #[test]
    fn key_and_buffer_are_zeroized_on_drop() {
        const fn assert_zeroized<T: zeroize::ZeroizeOnDrop>() {}
        const KEYED: fn(&Zeroizing<[u8; 32]>) -> ChaCha20Rng = keyed;
        assert_zeroized::<ChaCha20Rng>();
        assert_zeroized::<Wiped>();
        let mut one = KEYED(&Zeroizing::new([0; 32]));
        let mut other = Rng::insecure_test(0);
        assert_eq!(one.next_u64(), other.stream().unwrap().next_u64());
    }
}
