//! Places where a test lets the process "die". Nothing in a release build.

use crate::error::Result;

#[cfg(not(test))]
#[inline]
#[allow(clippy::unnecessary_wraps)] // the test build fails here
pub(crate) fn point(_name: &'static str) -> Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use armed::{arm, point};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    use super::Result;
    use crate::error::VaultError;

    thread_local! {
        static ARMED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// The next pass of `name` on this thread fails; `None` disarms.
    pub(crate) fn arm(name: Option<&'static str>) {
        ARMED.set(name);
    }

    pub(crate) fn point(name: &'static str) -> Result<()> {
        if ARMED.get() == Some(name) {
            ARMED.set(None);
            let source = std::io::Error::other("simulated crash");
            return Err(VaultError::Io {
                op: "fail point",
                path: name.to_owned(),
                source,
            });
        }
        Ok(())
    }
}
