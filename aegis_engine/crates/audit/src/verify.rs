//! Checks a whole log without writing anything.

use aegis_folder::AsDir;

use crate::canonical;
use crate::cursor::Cursor;
use crate::error::AuditError;
use crate::head::Head;
use crate::read::{open, settled_length};
use crate::scan::{Scan, start};

/// What was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Number of records.
    pub records: u64,
    /// Where the chain ends. Keep it elsewhere: it is the `expect` of the next check.
    pub head: Head,
    /// Length of the file.
    pub bytes: u64,
}

/// Checks every byte of the log in `dir`: sums, numbers, chain and the form of each payload.
///
/// With `origin`, the log must belong to it. With `expect`, a head kept elsewhere must lie in the chain, otherwise it
/// is [`AuditError::Rollback`]: without one, records cut off the end are not noticed. A torn tail is an error.
pub fn verify<D: AsDir + ?Sized>(
    dir: &D,
    origin: Option<&str>,
    expect: Option<&Head>,
) -> Result<Report, AuditError> {
    let (file, place) = open(dir)?;
    let path = place.path().to_path_buf();
    let bytes = settled_length(&file, &path)?;
    let (offset, genesis) = start(&file, &path, origin)?;
    let mut scan = Scan::new(&file, &path, Cursor::at(offset, 0, genesis), bytes);
    loop {
        let here = scan.head();
        if let Some(expected) = expect
            && expected.seq == here.seq
            && expected.hash != here.hash
        {
            return Err(AuditError::Rollback {
                file: path,
                expected: *expected,
                found: here,
            });
        }
        if !scan.advance()? {
            break;
        }
        if canonical::parse(scan.payload()).is_none() {
            return Err(scan.tampered_before("its payload is not canonical JSON"));
        }
    }
    let head = scan.head();
    match expect {
        Some(expected) if expected.seq > head.seq => Err(AuditError::Rollback {
            file: path,
            expected: *expected,
            found: head,
        }),
        _ => Ok(Report {
            records: head.seq,
            head,
            bytes,
        }),
    }
}
