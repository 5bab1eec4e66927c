//! The time of a record as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Now, as RFC 3339 in UTC with milliseconds. A clock before 1970 reads as 1970: the chain, not the clock, orders records.
pub(crate) fn now() -> String {
    rfc3339(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO),
    )
}

/// A record with its time, unless it brings one.
pub(crate) fn with_time(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(map) = body.as_object_mut()
        && !map.contains_key("time")
    {
        map.insert("time".to_owned(), now().into());
    }
    body
}

/// With milliseconds, as records hold it.
fn rfc3339(since: Duration) -> String {
    let seconds = utc(since.as_secs());
    format!(
        "{}.{:03}Z",
        seconds.trim_end_matches('Z'),
        since.subsec_millis()
    )
}

/// Seconds since 1970 as RFC 3339 in UTC, for people: `2026-11-28T16:14:08Z`.
///
/// The civil date of a day number, after Hinnant, "chrono-compatible low-level date algorithms": years of 365.2425 days
/// that start on 1 March, so that the leap day is the last of its year.
#[must_use]
pub fn utc(since: u64) -> String {
    let (days, second) = (since / 86_400, since % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_have_their_date() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn any_number_has_a_date() {
        assert_eq!(utc(1_795_838_798), "2026-11-28T04:06:38Z");
        assert_eq!(utc(u64::MAX), "584554051223-11-09T07:00:15Z");
    }
}
