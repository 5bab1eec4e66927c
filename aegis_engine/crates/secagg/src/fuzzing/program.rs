//! An input as a program: choices, and changes to messages.

/// Reads choices from the front of an input.
pub(super) struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next byte, while there is one.
    pub(super) fn more(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte; 0 after the end, so that every program can be carried out.
    pub(super) fn byte(&mut self) -> u8 {
        self.more().unwrap_or(0)
    }

    fn place(&mut self, len: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % len.max(1)
    }

    /// Changes a message up to three times, or not at all for a byte below 128: most changed messages are refused.
    pub(super) fn change(&mut self, message: &mut Vec<u8>, other: &[u8]) {
        let changes = self.byte();
        if changes < 128 {
            return;
        }
        for _ in 0..=changes % 3 {
            let what = self.byte();
            let at = self.place(message.len() + 1);
            match what % 8 {
                0 => message.truncate(at),
                1 => message.insert(at, self.byte()),
                2 => {
                    let from = self.place(other.len() + 1);
                    let len = usize::from(self.byte()).min(other.len() - from);
                    let len = len.min(message.len() - at);
                    message[at..at + len].copy_from_slice(&other[from..from + len]);
                }
                3 => {
                    // counts, widths, lengths
                    let value = u32::from(self.byte()).wrapping_sub(8).to_le_bytes();
                    let field = message.iter_mut().skip(at).zip(value);
                    field.for_each(|(byte, value)| *byte = value);
                }
                4 => {
                    let end = (at + usize::from(self.byte())).min(message.len());
                    message.drain(at..end);
                }
                5 => {
                    let end = (at + usize::from(self.byte())).min(message.len());
                    message.extend_from_within(at..end);
                }
                _ => {
                    let flip = self.byte();
                    message.iter_mut().skip(at).take(1).for_each(|b| *b ^= flip);
                }
            }
        }
    }
}
