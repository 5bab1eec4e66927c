//! Splits bytes of a source into records. Lines and fields stay in pages outside core dumps.

use std::sync::Arc;

use aegis_memory::Pages;
use csv_core::ReadRecordResult;

use super::{BOM, CsvOptions};
use crate::error::{Result, TableError};
use crate::source::Source;

/// Read from the source at a time.
const INPUT: usize = 1 << 20;
/// Fields of a record in bytes, at first.
const OUTPUT: usize = 1 << 16;

pub fn pages(bytes: usize) -> Result<Pages> {
    Pages::new(bytes).map_err(|_| TableError::Memory { bytes })
}

/// Records one after the other, from one place of the source to another.
pub struct Splitter {
    source: Arc<dyn Source>,
    core: csv_core::Reader,
    longest: usize,
    /// Where the next refill starts, and where the last one ends.
    at: u64,
    end: u64,
    input: Pages,
    filled: usize,
    used: usize,
    output: Pages,
    ends: Vec<usize>,
    fields: usize,
    line: u64,
    started: u64,
}

impl Splitter {
    /// From `at` to `end`; `line` is the number of the line at `at`, `most` the number of fields of the widest record.
    pub fn new(
        source: Arc<dyn Source>,
        options: &CsvOptions,
        (at, end): (u64, u64),
        line: u64,
        most: usize,
    ) -> Result<Self> {
        let room = usize::try_from(end - at).unwrap_or(INPUT).clamp(1, INPUT);
        Ok(Self {
            source,
            core: options.core(),
            longest: options.longest_line,
            at,
            end,
            input: pages(room)?,
            filled: 0,
            used: 0,
            output: pages(OUTPUT.min(options.longest_line).max(1))?,
            // One more field than a record has shows that there are too many.
            ends: vec![0; most.saturating_add(1)],
            fields: 0,
            line,
            started: line,
        })
    }

    /// Fields of the record read last.
    pub fn fields(&self) -> usize {
        self.fields
    }

    /// Field `at` of the record read last; there are [`fields`](Self::fields).
    pub fn field(&self, at: usize) -> &[u8] {
        let from = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.output[from..self.ends[at]]
    }

    /// Line on which the record read last starts, from 1.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Bytes of the source taken so far.
    pub fn consumed(&self) -> u64 {
        self.at - (self.filled - self.used) as u64
    }

    pub fn wrong(&self, reason: impl Into<String>) -> TableError {
        TableError::Line {
            line: self.started,
            reason: reason.into(),
        }
    }

    /// Reads on; false at the end.
    fn refill(&mut self) -> Result<bool> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let take = left.min(self.input.len());
        if take > 0 {
            self.source
                .read_at(self.at, &mut self.input[..take])
                .map_err(TableError::Source)?;
        }
        (self.used, self.filled) = (0, take);
        if self.at == 0 && self.input[..take].starts_with(BOM) {
            self.used = BOM.len();
        }
        self.at += take as u64;
        Ok(take > 0)
    }

    /// Goes to the next record; false at the end. Empty lines are passed over.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            if self.used == self.filled {
                if !self.refill()? {
                    return Ok(false);
                }
                // Of a file that is a byte order mark and nothing more.
                continue;
            }
            match self.input[self.used] {
                b'\n' => self.line += 1,
                b'\r' => {}
                _ => break,
            }
            self.used += 1;
        }
        self.started = self.line;
        self.core.set_line(self.line);
        let (mut written, mut taken) = (0, 0);
        let mut last = false;
        self.fields = 0;
        loop {
            let input = if last {
                // A line end closes what may end here; within quotes it does not.
                b"\n"
            } else {
                &self.input[self.used..self.filled]
            };
            let (result, read, out, ends) = self.core.read_record(
                input,
                &mut self.output[written..],
                &mut self.ends[self.fields..],
            );
            if !last {
                self.used += read;
            }
            taken += read;
            written += out;
            self.fields += ends;
            if taken > self.longest {
                return Err(self.wrong(format!(
                    "it has more than {} bytes; close its quotes, or allow longer lines",
                    self.longest
                )));
            }
            match result {
                ReadRecordResult::Record => {
                    self.line = self.core.line();
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
                ReadRecordResult::InputEmpty if last => {
                    let before = self.fields.checked_sub(1).map_or(0, |at| self.ends[at]);
                    return Err(unclosed(self.started, &self.output[..before]));
                }
                ReadRecordResult::InputEmpty => last = !self.refill()?,
                ReadRecordResult::OutputFull => {
                    let mut larger = pages(self.output.len().saturating_mul(2))?;
                    larger[..written].copy_from_slice(&self.output[..written]);
                    self.output = larger;
                }
                ReadRecordResult::OutputEndsFull => {
                    let most = self.ends.len() - 1;
                    return Err(self.wrong(format!(
                        "it has more than {most} fields; quote fields that hold a delimiter"
                    )));
                }
            }
        }
    }
}

/// The error of a quote that is open at the end of the file. `before`: what the record had in front of that field.
pub fn unclosed(started: u64, before: &[u8]) -> TableError {
    TableError::Quote {
        line: started + lines(before),
    }
}

pub fn lines(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64 - 1
}
