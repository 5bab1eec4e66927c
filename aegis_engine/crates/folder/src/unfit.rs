//! What is refused.

use std::io;

/// Something in the folder that is not what its name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is {0}: only plain files and folders of its own belong there")]
pub struct Unfit(pub &'static str);

impl Unfit {
    /// Whether `error` is one, and which.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> Self {
        Self::new(io::ErrorKind::InvalidData, unfit)
    }
}
