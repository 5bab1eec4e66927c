//! What a run asks for, and whether the question means something.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::error::PolicyError;
use crate::permit::Action;
use crate::rows::{RowIndex, RowSet};

/// What a run asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The vault.
    pub vault: Uuid,
    /// The dataset's object in it.
    pub object: Uuid,
    /// What to do.
    pub action: Action,
    /// What for.
    pub purpose: String,
    /// Columns to read, in this order. None, with [`Action::Export`], asks for the whole object.
    pub columns: Vec<String>,
    /// The run.
    pub run: String,
    /// The round of the run.
    pub round: u64,
    /// Hash of the code that asks.
    pub app_hash: String,
    /// How long the permit is to last, at most [`MAX_VALID_FOR`]. It ends earlier when the retention time of a row does.
    pub valid_for: Duration,
    /// The day of the decision, in days since 1970-01-01, for tests of this crate; `None` is today (UTC).
    pub today: Option<u32>,
    /// The node that asks.
    pub node: String,
}

/// The longest life of a permit.
pub const MAX_VALID_FOR: Duration = Duration::from_hours(24);

pub(super) fn check(
    request: &Request,
    rows: &RowIndex,
    candidates: Option<&RowSet>,
) -> Result<(), PolicyError> {
    for (name, text) in [
        ("purpose", &request.purpose),
        ("run", &request.run),
        ("node", &request.node),
        ("app_hash", &request.app_hash),
    ] {
        if text.len() > 256 || text.chars().any(char::is_control) {
            return Err(PolicyError::bad(format!(
                "{name} must have at most 256 bytes and no control characters"
            )));
        }
    }
    if request.purpose.is_empty() {
        return Err(PolicyError::bad(
            "a purpose is needed: say what the data is for",
        ));
    }
    if request.valid_for.is_zero() || request.valid_for > MAX_VALID_FOR {
        return Err(PolicyError::bad(
            "valid_for must be more than nothing and at most 24 h",
        ));
    }
    if request.columns.is_empty() && !whole(request) {
        return Err(PolicyError::bad(
            "name at least one column; only export may ask for the whole object",
        ));
    }
    let mut seen = BTreeSet::new();
    for column in &request.columns {
        if !seen.insert(column) {
            return Err(PolicyError::bad(format!(
                "column {column:?} is asked for twice"
            )));
        }
    }
    // The names go into the audit record, which holds 1 MiB.
    if request.columns.iter().map(|c| c.len() + 8).sum::<usize>() > 256 * 1024 {
        return Err(PolicyError::bad(
            "the column names take more than 256 KiB: ask for fewer columns",
        ));
    }
    if whole(request) && candidates.is_some() {
        return Err(PolicyError::bad(
            "export of the whole object takes no candidate rows",
        ));
    }
    rows.check()?;
    if let Some(last) = candidates.and_then(|set| set.iter().next_back())
        && last >= rows.len()
    {
        return Err(PolicyError::bad(format!(
            "candidate row {last} is outside the dataset"
        )));
    }
    Ok(())
}

/// Whether the whole object is asked for, byte for byte.
pub(super) fn whole(request: &Request) -> bool {
    request.action == Action::Export && request.columns.is_empty()
}

/// Until the permit's time is up, or the last day of use of one of its rows is over.
pub(super) fn lifetime(request: &Request, last_day: Option<u32>, now: u64) -> Duration {
    let today = request.today.unwrap_or_else(|| day(now));
    let Some(last_day) = last_day else {
        return request.valid_for;
    };
    let days = u64::from(last_day.saturating_sub(today));
    let left = Duration::from_millis(days * MS_A_DAY + (MS_A_DAY - now % MS_A_DAY));
    request.valid_for.min(left)
}

pub(super) fn what(request: &Request) -> String {
    format!(
        "{} object {} for purpose {:?}",
        request.action.name(),
        request.object,
        request.purpose
    )
}

pub(super) fn day(ms: u64) -> u32 {
    u32::try_from(ms / MS_A_DAY).unwrap_or(u32::MAX)
}

const MS_A_DAY: u64 = 86_400_000;

pub(super) fn now_ms() -> u64 {
    // Before 1970 counts as 1970: the clock check or a retention date then denies nothing wrongly allowed later.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
