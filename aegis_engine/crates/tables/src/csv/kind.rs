//! Types of CSV columns.

use arrow_schema::DataType;

/// What the fields of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Bool,
    /// Whole numbers of 4 bytes.
    I32,
    /// Whole numbers of 8 bytes.
    I64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Days, written `2026-11-24` (ISO 8601).
    Date,
    /// UTF-8 text.
    Text,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Bool,
        Self::I32,
        Self::I64,
        Self::F32,
        Self::F64,
        Self::Date,
        Self::Text,
    ];

    /// The name used in options and schemas.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Date => "date",
            Self::Text => "text",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::F32 => DataType::Float32,
            Self::F64 => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Text => DataType::Utf8,
        }
    }
}

/// A field as text, without blanks around it, when it is ASCII.
fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field.trim_ascii()).ok()
}

/// Any type that Rust can parse from a field.
pub fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    text(field)?.parse().ok()
}

pub fn boolean(field: &[u8]) -> Option<bool> {
    let field = field.trim_ascii();
    let is = |word: &str| field.eq_ignore_ascii_case(word.as_bytes());
    match (is("true"), is("false")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Days since 1970-01-01 of `YYYY-MM-DD` in the Gregorian calendar.
pub fn date(field: &[u8]) -> Option<i32> {
    let field: &[u8; 10] = field.trim_ascii().try_into().ok()?;
    let digits = |from: usize, to: usize| {
        field[from..to].iter().try_fold(0_i32, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + i32::from(digit - b'0'))
        })
    };
    if field[4] != b'-' || field[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    // Days from the civil calendar: years start in March, so that the leap day is the last (Hinnant, "chrono-Compatible
    // Low-Level Date Algorithms", days_from_civil).
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(era * 146_097 + of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970_and_refuse_days_that_never_were() {
        for (text, days) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(11_016)),
            ("1969-12-31", Some(-1)),
            ("2026-11-24", Some(20_781)),
            ("0001-01-01", Some(-719_162)),
            ("1900-02-29", None),
            ("2026-13-01", None),
            ("2026-1-1", None),
        ] {
            assert_eq!(date(text.as_bytes()), days, "{text}");
        }
    }
}
