//! Types of columns, from the first lines.

use super::CsvOptions;
use super::kind::{self, Kind};

/// What a column can still be.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // one a type
pub struct Guess {
    seen: bool,
    bool: bool,
    i64: bool,
    f64: bool,
    date: bool,
}

impl Guess {
    pub fn any() -> Self {
        Self {
            seen: false,
            bool: true,
            i64: true,
            f64: true,
            date: true,
        }
    }

    /// Takes one more field into account.
    pub fn narrow(&mut self, field: &[u8], options: &CsvOptions) {
        if options.is_null(field) {
            return;
        }
        self.seen = true;
        self.bool = self.bool && kind::boolean(field).is_some();
        self.date = self.date && kind::date(field).is_some();
        if self.f64 && kind::number::<i64>(field).is_none() {
            self.i64 = false;
            // A whole number that is larger than an i64 would lose digits as a float, and be another number: an id, mostly.
            self.f64 = !whole(field) && kind::number::<f64>(field).is_some();
        }
    }

    /// The narrowest type that holds all fields; text when there was none.
    pub fn kind(self) -> Kind {
        match self {
            Self { seen: false, .. } => Kind::Text,
            Self { bool: true, .. } => Kind::Bool,
            Self {
                i64: true,
                f64: true,
                ..
            } => Kind::I64,
            Self { f64: true, .. } => Kind::F64,
            Self { date: true, .. } => Kind::Date,
            _ => Kind::Text,
        }
    }
}

/// Digits and nothing else, but for a sign in front.
fn whole(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
