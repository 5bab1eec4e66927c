//! Footers whose texts are no UTF-8: key-value metadata may hold any bytes (petastorm and R put pickles there), and the
//! footer's reader refuses the file for them. The bytes are walked by Thrift's compact protocol, and put right in place.

/// Structs within structs, at most: real footers have five.
const DEPTH: usize = 32;
/// `FileMetaData.key_value_metadata` (parquet.thrift).
const PAIRS: i64 = 5;
/// What ends a struct.
const STOP: u8 = 0;

/// Replaces each byte of the key-value metadata that is no UTF-8 by `?`; none when the footer cannot be walked.
pub fn mend(footer: &mut [u8]) -> Option<()> {
    let mut walk = Walk {
        bytes: footer,
        at: 0,
        mends: false,
    };
    let mut id = 0_i64;
    loop {
        let kind = walk.field(&mut id)?;
        if kind == STOP {
            return Some(());
        }
        walk.mends = id == PAIRS;
        walk.value(kind, false, DEPTH)?;
    }
}

struct Walk<'b> {
    bytes: &'b mut [u8],
    at: usize,
    /// Whether texts are put right where the walk is.
    mends: bool,
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// The type of the next field, whose number goes into `id`; `STOP` at the end of the struct.
    fn field(&mut self, id: &mut i64) -> Option<u8> {
        let head = self.byte()?;
        if head == STOP {
            return Some(STOP);
        }
        *id = match head >> 4 {
            // Zigzag, when it is not near the last one.
            0 => {
                let raw = self.varint()?.cast_signed();
                (raw >> 1) ^ -(raw & 1)
            }
            step => id.checked_add(i64::from(step))?,
        };
        Some(head & 0x0f)
    }

    /// Walks over a value. In a list a truth value has a byte; in a struct its type says it.
    fn value(&mut self, kind: u8, in_list: bool, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1 | 2 if !in_list => Some(()),
            1..=3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8).map(drop),
            8 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let text = self.pass(len)?;
                if self.mends {
                    in_utf8(&mut self.bytes[text]);
                }
                Some(())
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    few => u64::from(few),
                };
                (0..count).try_for_each(|_| self.value(head & 0x0f, true, depth))
            }
            12 => {
                let mut id = 0;
                loop {
                    match self.field(&mut id)? {
                        STOP => return Some(()),
                        kind => self.value(kind, false, depth)?,
                    }
                }
            }
            // Maps are in no footer.
            _ => None,
        }
    }

    fn pass(&mut self, len: usize) -> Option<std::ops::Range<usize>> {
        let start = self.at;
        self.at = start
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len())?;
        Some(start..self.at)
    }
}

/// `?` for each byte that is in no UTF-8 sequence.
pub fn in_utf8(text: &mut [u8]) {
    let mut from = 0;
    while let Err(error) = std::str::from_utf8(&text[from..]) {
        from += error.valid_up_to();
        let wrong = error.error_len().unwrap_or(text.len() - from);
        text[from..from + wrong].fill(b'?');
        from += wrong;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_that_are_no_text_are_replaced() {
        for (before, after) in [
            (&b"a\xffb"[..], &b"a?b"[..]),
            ("é\u{feff}".as_bytes(), "é\u{feff}".as_bytes()),
            (b"\xe2\x82", b"??"),
            (b"\xc3\xa9\x80\x04", b"\xc3\xa9?\x04"),
        ] {
            let mut text = before.to_vec();
            in_utf8(&mut text);
            assert_eq!(text, after);
        }
    }

    #[test]
    fn a_walk_ends_on_any_bytes() {
        for seed in 0..2000_u32 {
            let mut word = seed;
            let mut bytes = Vec::new();
            for _ in 0..16 {
                word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes.extend(word.to_be_bytes());
            }
            let _ = mend(&mut bytes);
        }
        // Lists that claim more than there is.
        assert_eq!(
            mend(&mut [0x59, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
            None
        );
        assert_eq!(
            mend(&mut [0x59, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
            None
        );
    }
}
