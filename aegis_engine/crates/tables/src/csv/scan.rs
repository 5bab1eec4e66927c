//! One pass over the bytes: how many records, and where runs of them start.

use aegis_memory::Pages;
use csv_core::ReadRecordResult;

use super::split::{lines, pages};
use super::{BOM, CsvOptions};
use crate::error::{Result, TableError};

/// A block ends after this many records or bytes, whichever comes first.
const BLOCK_ROWS: u64 = 1 << 16;
const BLOCK_BYTES: u64 = 8 << 20;

/// A run of whole records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Line at its start, from 1.
    pub line: u64,
    /// Records in it.
    pub rows: u64,
}

/// Counts the records of a CSV file while its bytes pass by, in constant memory but for 24 bytes a block.
pub struct Scanner {
    core: csv_core::Reader,
    columns: usize,
    longest: u64,
    output: Pages,
    ends: [usize; 64],
    header: bool,
    /// Bytes fed so far.
    at: u64,
    line: u64,
    /// Bytes of a byte order mark that came; none once it is known whether there is one.
    mark: Option<usize>,
    open: Option<Open>,
    blocks: Vec<Block>,
}

/// The record under way.
#[derive(Clone, Copy)]
struct Open {
    bytes: u64,
    fields: usize,
    /// Where it starts.
    line: u64,
    /// Line ends within the fields that are complete, and those after them.
    before: u64,
    since: u64,
    /// Bytes of its fields so far.
    written: usize,
}

impl Scanner {
    /// For a file of `columns` columns.
    pub fn new(options: &CsvOptions, columns: usize) -> Result<Self> {
        Ok(Self {
            core: options.core(),
            columns,
            longest: options.longest_line as u64,
            output: pages(1 << 16)?,
            ends: [0; 64],
            header: options.header,
            at: 0,
            line: 1,
            mark: Some(0),
            open: None,
            blocks: Vec::new(),
        })
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, mut data: &[u8]) -> Result<()> {
        while let (Some(found), Some(byte)) = (self.mark, data.first()) {
            if found < BOM.len() && *byte == BOM[found] {
                self.mark = Some(found + 1);
                data = &data[1..];
            } else {
                self.unmarked()?;
            }
        }
        self.pass(data)
    }

    /// Goes on after the mark, or with the bytes that looked like the start of one.
    fn unmarked(&mut self) -> Result<()> {
        match self.mark.take() {
            Some(found) if found == BOM.len() => {
                self.at = found as u64;
                Ok(())
            }
            Some(found) => self.pass(&BOM[..found]),
            None => Ok(()),
        }
    }

    fn pass(&mut self, data: &[u8]) -> Result<()> {
        let mut used = 0;
        while used < data.len() {
            if self.open.is_none() {
                match data[used] {
                    b'\n' => self.line += 1,
                    b'\r' => {}
                    _ => self.start(used as u64),
                }
                if self.open.is_none() {
                    used += 1;
                    continue;
                }
            }
            used += self.step(&data[used..])?;
        }
        self.at += data.len() as u64;
        Ok(())
    }

    /// The blocks, once all bytes were fed.
    pub fn finish(mut self) -> Result<Vec<Block>> {
        self.unmarked()?;
        // A line end closes what may end here; within quotes it does not.
        while self.open.is_some() {
            if self.step(b"\n")? == 1
                && let Some(open) = self.open
            {
                return Err(TableError::Quote {
                    line: open.line + open.before,
                });
            }
        }
        Ok(self.blocks)
    }

    fn start(&mut self, used: u64) {
        self.open = Some(Open {
            bytes: 0,
            fields: 0,
            line: self.line,
            before: 0,
            since: 0,
            written: 0,
        });
        self.core.set_line(self.line);
        if self.header {
            return;
        }
        let offset = self.at + used;
        let full = self
            .blocks
            .last()
            .is_none_or(|block| block.rows >= BLOCK_ROWS || offset - block.offset >= BLOCK_BYTES);
        if full {
            self.blocks.push(Block {
                offset,
                line: self.line,
                rows: 0,
            });
        }
    }

    /// Takes some bytes; gives how many.
    fn step(&mut self, input: &[u8]) -> Result<usize> {
        let Some(mut open) = self.open else {
            return Ok(0);
        };
        let (result, read, out, ends) =
            self.core
                .read_record(input, &mut self.output, &mut self.ends);
        open.bytes += read as u64;
        open.fields += ends;
        let mut rest = &self.output[..out];
        if let Some(last) = ends.checked_sub(1) {
            let (ended, after) =
                rest.split_at(self.ends[last].saturating_sub(open.written).min(out));
            open.before += open.since + lines(ended);
            (open.since, rest) = (0, after);
        }
        open.since += lines(rest);
        open.written += out;
        self.open = Some(open);
        let line = open.line;
        let wrong = |reason: String| Err(TableError::Line { line, reason });
        if open.bytes > self.longest {
            return wrong(format!(
                "it has more than {} bytes; close its quotes, or allow longer lines",
                self.longest
            ));
        }
        match result {
            ReadRecordResult::Record => {
                if open.fields != self.columns {
                    return wrong(fields_differ(open.fields, self.columns));
                }
                self.line = self.core.line();
                self.open = None;
                if self.header {
                    self.header = false;
                } else if let Some(block) = self.blocks.last_mut() {
                    block.rows += 1;
                }
            }
            ReadRecordResult::End => self.open = None,
            _ => {}
        }
        Ok(read)
    }
}

/// What a record of the wrong width is told.
pub fn fields_differ(found: usize, expected: usize) -> String {
    let remedy = match (found, expected) {
        (_, 1) | (1, _) => {
            "name the delimiter, such as Csv(delimiter=\";\"), or quote fields that hold one"
        }
        _ => "quote fields that hold a delimiter",
    };
    format!("it has {found} fields, the table has {expected} columns; {remedy}")
}
