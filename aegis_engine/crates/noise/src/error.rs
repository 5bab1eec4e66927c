//! What can go wrong: a parameter that protects nobody, or a system without entropy.

/// An error of the noise crate. Nothing was written to the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The operating system gave no random bytes.
    #[error(
        "the operating system gives no random bytes: check that getrandom is not blocked for this process"
    )]
    NoEntropy,
    /// The standard deviation is not usable.
    #[error(
        "sigma is {sigma}: it must lie between 2^-100 and 2^100; to train without noise, draw none"
    )]
    BadSigma {
        /// What was asked for.
        sigma: f64,
    },
    /// The inclusion probability is not one.
    #[error("the sampling probability is {q}: it must lie between 0 and 1")]
    BadProbability {
        /// What was asked for.
        q: f64,
    },
    /// Row numbers are 32 bits wide.
    #[error("{n} rows cannot be numbered in 32 bits: split the dataset")]
    TooManyRows {
        /// What was asked for.
        n: u64,
    },
}

impl NoiseError {
    /// A code that stays the same from version to version.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoEntropy => "AEG-N001",
            Self::BadSigma { .. } => "AEG-N002",
            Self::BadProbability { .. } => "AEG-N003",
            Self::TooManyRows { .. } => "AEG-N004",
        }
    }
}
