//! One pass over the bytes: how many records, and where runs of them start.

use aegis_memory::Pages;
use csv_core::ReadRecordResult;

use super::CsvOptions;
use super::split::pages;
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
    /// The record under way: its bytes, its fields, its line.
    open: Option<(u64, usize, u64)>,
    blocks: Vec<Block>,
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
            open: None,
            blocks: Vec::new(),
        })
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, data: &[u8]) -> Result<()> {
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
            used += self.step(&data[used..])?.0;
        }
        self.at += data.len() as u64;
        Ok(())
    }

    /// The blocks, once all bytes were fed.
    pub fn finish(mut self) -> Result<Vec<Block>> {
        while self.open.is_some() {
            let (_, ended) = self.step(&[])?;
            if ended {
                break;
            }
        }
        Ok(self.blocks)
    }

    fn start(&mut self, used: u64) {
        self.open = Some((0, 0, self.line));
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

    /// Bytes taken, and whether the records have ended.
    fn step(&mut self, input: &[u8]) -> Result<(usize, bool)> {
        let Some((mut bytes, mut fields, line)) = self.open else {
            return Ok((0, true));
        };
        let (result, read, _, ends) =
            self.core
                .read_record(input, &mut self.output, &mut self.ends);
        bytes += read as u64;
        fields += ends;
        self.open = Some((bytes, fields, line));
        let wrong = |reason: String| Err(TableError::Line { line, reason });
        if bytes > self.longest {
            return wrong(format!(
                "it has more than {} bytes; close its quotes, or allow longer lines",
                self.longest
            ));
        }
        match result {
            ReadRecordResult::Record => {
                if fields != self.columns {
                    return wrong(fields_differ(fields, self.columns));
                }
                self.line = self.core.line();
                self.open = None;
                if self.header {
                    self.header = false;
                } else if let Some(block) = self.blocks.last_mut() {
                    block.rows += 1;
                }
                Ok((read, false))
            }
            ReadRecordResult::End => Ok((read, true)),
            _ => Ok((read, false)),
        }
    }
}

/// What a record of the wrong width is told.
pub fn fields_differ(found: usize, expected: usize) -> String {
    format!(
        "it has {found} fields, the table has {expected} columns; quote fields that hold a delimiter"
    )
}
