//! A position in the chain, and a record of it.

use std::fmt;
use std::str::FromStr;

/// How long a log is and what it ends in: enough to notice later that it was cut or rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head {
    /// Number of records.
    pub seq: u64,
    /// Hash of the last one; of the file header when there is none.
    pub hash: [u8; 32],
}

/// One record, with its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number; the first is 0.
    pub seq: u64,
    /// Its hash, which the record after it carries.
    pub hash: [u8; 32],
    /// What was recorded; always a JSON object.
    pub body: serde_json::Value,
}

impl Record {
    /// The head of the log right after this record.
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq + 1,
            hash: self.hash,
        }
    }
}

impl fmt::Display for Head {
    /// `seq:hex`, 64 lower case digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.seq)?;
        self.hash
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({self})")
    }
}

/// The text is not a head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the head of an audit log: it is written as the number of records, a colon and 64 lower case hex digits"
)]
pub struct ParseHeadError;

impl FromStr for Head {
    type Err = ParseHeadError;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else: one head has one text.
    fn from_str(text: &str) -> Result<Self, ParseHeadError> {
        let (seq, hex) = text.split_once(':').ok_or(ParseHeadError)?;
        let mut hash = [0; 32];
        if hex.len() != 64 {
            return Err(ParseHeadError);
        }
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParseHeadError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseHeadError)?;
        }
        let head = Self {
            seq: seq.parse().map_err(|_| ParseHeadError)?,
            hash,
        };
        // `parse` also takes "+1", "01" and upper case.
        if head.to_string() == text {
            Ok(head)
        } else {
            Err(ParseHeadError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_one_text() {
        let head = Head {
            seq: 42,
            hash: [0xab; 32],
        };
        assert_eq!(head.to_string().parse(), Ok(head));
        let hex = "ab".repeat(32);
        for text in [
            "",
            ":",
            "1",
            &hex,
            &format!("+1:{hex}"),
            &format!("01:{hex}"),
            &format!("1:{}", hex.to_uppercase()),
        ] {
            assert_eq!(text.parse::<Head>(), Err(ParseHeadError), "{text}");
        }
        assert_eq!(
            format!("1:+b{}", &hex[2..]).parse::<Head>(),
            Err(ParseHeadError)
        );
        assert_eq!(
            format!("1:é{}", &hex[2..]).parse::<Head>(),
            Err(ParseHeadError)
        );
    }
}
