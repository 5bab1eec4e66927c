//! Places where a test lets the process die. Nothing in a release build.
//!
//! Unit tests let a point return an error. With the feature `failpoints` (never in wheels) a point of a real process kills it
//! by SIGKILL: `AEGIS_FAIL_KILL=name:n` at the n-th pass of `name`; `AEGIS_FAIL_LIST=FILE` notes the points that are passed.

use crate::error::Result;

#[cfg(not(any(test, feature = "failpoints")))]
#[inline]
#[allow(clippy::unnecessary_wraps)] // the test build fails here
pub(crate) fn point(_name: &'static str) -> Result<()> {
    Ok(())
}

#[cfg(all(feature = "failpoints", not(test)))]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn point(name: &'static str) -> Result<()> {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    static PASSED: Mutex<Option<HashMap<&'static str, u32>>> = Mutex::new(None);
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = passed
        .get_or_insert_default()
        .entry(name)
        .and_modify(|n| *n += 1)
        .or_insert(1);
    if let Some(list) = std::env::var_os("AEGIS_FAIL_LIST") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)
            .expect("the list of points can be written");
        writeln!(file, "{name}:{count}").expect("the list of points can be written");
    }
    if std::env::var("AEGIS_FAIL_KILL").is_ok_and(|wanted| wanted == format!("{name}:{count}")) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park(); // the signal is on its way
    }
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
