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
    /// A parameter of a mechanism lies outside what the accountant is trusted for.
    #[error("{what} is {value}: it must lie between {least} and {most}")]
    OutOfBounds {
        /// Which parameter.
        what: &'static str,
        /// What was asked for.
        value: f64,
        /// Smallest value.
        least: f64,
        /// Largest value.
        most: f64,
    },
    /// A session was asked for something other than what was reserved.
    #[error("the session of DP-SGD {what}")]
    Session {
        /// What was tried, and what holds.
        what: &'static str,
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
            Self::OutOfBounds { .. } => "AEG-N005",
            Self::Session { .. } => "AEG-N006",
        }
    }
}
