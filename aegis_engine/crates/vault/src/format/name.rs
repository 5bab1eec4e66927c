//! What may be the name of an object, and where a keystore looks it up.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::{Result, VaultError};

/// Longest current name, label of a copy and name of a head, in bytes.
pub(crate) const NAME_MAX: usize = 1024;

/// Invisible characters that let a text show as another one: line separators, and what turns the direction of writing.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same for `store` and `rename`.
///
/// # Errors
/// [`VaultError::BadRequest`] for a name that is empty, longer than 1024 bytes, or has control characters.
pub(crate) fn check(name: &str) -> Result<()> {
    check_length(name)?;
    if let Some(c) = name.chars().find(|c| deceives(*c)) {
        let what = format!(
            "the name {name:?} has a control character ({}); choose another, without line ends, escapes and changes of the \
             direction of writing",
            c.escape_unicode()
        );
        return Err(VaultError::BadRequest { what });
    }
    Ok(())
}

/// A name, or the label of a copy.
pub(crate) fn check_length(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        let what = format!(
            "a name has 1 to {NAME_MAX} bytes, this one has {}; choose another",
            name.len()
        );
        return Err(VaultError::BadRequest { what });
    }
    Ok(())
}

/// Where it may be looked up; two names in one place are told apart by their records.
pub(crate) fn slot(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
