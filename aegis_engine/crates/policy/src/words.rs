//! Names of people and purposes: one spelling each, wherever they come in.
//!
//! A person withdraws under the name they were taken in with, whoever typed it: both go through [`subject`].

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use unicode_normalization::char::is_combining_mark;

use crate::error::ConsentError;
pub use crate::error::{Flaw, LONGEST};

/// Characters that make two names look alike which are not, or a line look like two.
pub fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0xAD | 0x61C | 0x180E | 0x200B | 0x200E | 0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB | 0xE_0000..=0xE_007F
        )
}

/// Unicode's composed form (NFC, UAX 15) without space around it.
pub fn normal(text: &str) -> Result<String, Flaw> {
    // ASCII is composed as it is.
    let one: Cow<'_, str> = if text.is_ascii() {
        text.into()
    } else {
        text.nfc().collect()
    };
    let one = one.trim();
    match one.chars().find(|c| invisible(*c)) {
        _ if one.is_empty() => Err(Flaw::Empty),
        _ if one.len() > LONGEST => Err(Flaw::Long),
        Some(c) => Err(Flaw::Invisible(c)),
        None => Ok(one.to_owned()),
    }
}

/// A person's identifier in its one spelling.
pub fn subject(text: &str) -> Result<Cow<'_, str>, ConsentError> {
    // Most identifiers are spelt so already, and a file has millions of them.
    let plain = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if plain {
        return Ok(text.into());
    }
    let one = normal(text).map_err(|flaw| ConsentError::BadSubject { flaw })?;
    Ok(one.into())
}

/// A purpose in its one spelling.
pub fn purpose(text: &str) -> Result<String, ConsentError> {
    normal(text).map_err(|flaw| ConsentError::BadPurpose { flaw })
}

/// What two look-alikes have in common: case, accents, width, dashes, quotes and spaces do not count. For suggestions
/// only, never for a decision.
pub fn skeleton(text: &str) -> String {
    let folded = text.nfkd().filter(|c| !is_combining_mark(*c));
    folded
        .flat_map(char::to_lowercase)
        .filter(|c| !invisible(*c) && !c.is_whitespace())
        .map(|c| match c {
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE58}' | '_' => '-',
            '\u{2018}' | '\u{2019}' | '\u{201B}' | '\u{2032}' | '`' => '\'',
            'х' => 'x',
            'а' => 'a',
            'е' => 'e',
            'о' => 'o',
            'р' => 'p',
            'с' => 'c',
            'і' | 'l' => '1',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_one_spelling() {
        for same in ["José", "Jose\u{301}", " José", "José \t", "\u{a0}José"] {
            assert_eq!(normal(same).unwrap(), "José");
        }
    }

    #[test]
    fn what_is_not_seen_is_no_name() {
        for (text, flaw) in [
            ("", Flaw::Empty),
            (" \n", Flaw::Empty),
            ("a\0", Flaw::Invisible('\0')),
            ("a\nb", Flaw::Invisible('\n')),
            ("a\u{202e}b", Flaw::Invisible('\u{202e}')),
            ("a\u{2067}b", Flaw::Invisible('\u{2067}')),
            ("a\u{200b}b", Flaw::Invisible('\u{200b}')),
        ] {
            assert_eq!(normal(text), Err(flaw), "{text:?}");
        }
        assert_eq!(normal(&"x".repeat(257)), Err(Flaw::Long));
        assert!(normal(&"x".repeat(256)).is_ok());
    }

    #[test]
    fn an_identifier_is_spelt_as_any_name_is() {
        let long = "x".repeat(LONGEST + 1);
        let ascii = (0..=127).map(|b| char::from(b).to_string());
        let some = [
            "P-1",
            "P 1",
            " P1",
            "José",
            "Jose\u{301}",
            &long,
            &long[1..],
        ];
        for text in ascii.chain(some.map(str::to_owned)) {
            assert_eq!(
                subject(&text).ok().as_deref(),
                normal(&text).ok().as_deref(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn look_alikes_share_a_skeleton() {
        for alike in [
            "Patient-7",
            "patient\u{2010}7",
            "PATIENT\u{2212}7",
            "ｐatient-7",
            "patient -7",
        ] {
            assert_eq!(skeleton(alike), skeleton("patient-7"), "{alike}");
        }
        assert_ne!(skeleton("patient-8"), skeleton("patient-7"));
    }
}
