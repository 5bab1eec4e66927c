//! The newest time on record: a decision about retention is not made on a day before it, in whichever process.

use aegis_audit::Cursor;

use crate::error::Result;
use crate::vault::Vault;

/// How far the audit log was read for its times, and the newest of them.
type Read = (Option<Cursor>, u64);

impl Vault {
    /// The newest time in the audit log, in ms since 1970, as far as the log was written since the keystore was last, or
    /// read by this process.
    pub fn newest_time(&self) -> Result<u64> {
        let mark = self.inner.current()?.body.audit;
        self.inner.times.with(|read: &mut Read| {
            let folder = self.inner.paths.audit();
            let mut records = match read.0.or_else(|| mark.cursor()) {
                Some(cursor) => aegis_audit::read_from(&folder, cursor)?,
                None => aegis_audit::read(&folder)?,
            };
            while let Some(record) = records.next() {
                let time = record?.body["time"].as_str().and_then(ms);
                read.1 = read.1.max(time.unwrap_or(0));
                read.0 = Some(records.cursor());
            }
            Ok(read.1)
        })
    }
}

/// `2026-11-28T09:57:40.123Z`, as the log writes it, in ms since 1970.
fn ms(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days of the civil calendar (Hinnant), with the year beginning in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    let days = days.checked_sub(719_468)?;
    let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    Some((days * 86_400 + seconds) * 1000 + number(20..23).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::ms;

    #[test]
    fn times_of_the_log_are_read() {
        assert_eq!(ms("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(ms("2026-11-28T09:57:40.123Z"), Some(1_795_859_860_123));
        assert_eq!(ms("2000-02-29T23:59:59.999Z"), Some(951_868_799_999));
        assert_eq!(ms("yesterday"), None);
    }
}
