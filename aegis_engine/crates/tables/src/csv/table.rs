//! An opened CSV file.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};

use super::build::Builder;
use super::infer::Guess;
use super::scan::{Block, Scanner, fields_differ};
use super::split::{Splitter, pages};
use super::{CsvOptions, Kind};
use crate::error::{Result, TableError};
use crate::rows::Rows;
use crate::source::Source;

const FORMAT: &str = "CSV";
/// Types are inferred from no more than this, or from so many lines.
const PREFIX: u64 = 1 << 20;
const LINES: usize = 1000;
/// More columns than this are not a table.
const COLUMNS_MAX: usize = 1 << 16;

/// Header read, types known.
pub struct CsvTable {
    source: Arc<dyn Source>,
    options: CsvOptions,
    schema: SchemaRef,
    kinds: Vec<Kind>,
    /// Empty until the file was scanned.
    blocks: OnceLock<Vec<Block>>,
}

impl CsvTable {
    /// Reads the header and infers the types that are not given.
    pub fn open(source: Arc<dyn Source>, options: CsvOptions) -> Result<Self> {
        check(&options)?;
        let len = source.len();
        // No wider than the longest line, so memory is bounded.
        let most = COLUMNS_MAX.min(options.longest_line);
        let mut split = Splitter::new(Arc::clone(&source), &options, (0, len), 1, most)?;
        if !split.advance()? {
            return Err(TableError::unreadable(FORMAT, &"it is empty"));
        }
        let names = names(&split, &options)?;
        let mut guesses = vec![Guess::any(); names.len()];
        let given = |name: &String| {
            options
                .types
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, kind)| *kind)
        };
        if !names.iter().all(|name| given(name).is_some()) {
            let mut more = if options.header {
                split.advance()?
            } else {
                true
            };
            let mut rows = 0;
            while more && rows < options.infer_rows && (rows < LINES || split.consumed() <= PREFIX)
            {
                if split.fields() != names.len() {
                    return Err(split.wrong(fields_differ(split.fields(), names.len())));
                }
                for (at, guess) in guesses.iter_mut().enumerate() {
                    guess.narrow(split.field(at), &options);
                }
                rows += 1;
                more = split.advance()?;
            }
        }
        if let Some((unknown, _)) = options.types.iter().find(|(name, _)| !names.contains(name)) {
            return Err(TableError::NoColumn {
                column: unknown.clone(),
                known: names.join(", "),
            });
        }
        let kinds: Vec<Kind> = names
            .iter()
            .zip(&guesses)
            .map(|(name, guess)| given(name).unwrap_or_else(|| guess.kind()))
            .collect();
        let fields: Vec<Field> = names
            .into_iter()
            .zip(&kinds)
            .map(|(name, kind)| Field::new(name, kind.arrow(), true))
            .collect();
        Ok(Self {
            source,
            options,
            schema: Arc::new(Schema::new(fields)),
            kinds,
            blocks: OnceLock::new(),
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Type of each column.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Blocks, when known.
    pub fn blocks(&self) -> Option<&[Block]> {
        self.blocks.get().map(Vec::as_slice)
    }

    /// Takes blocks that a scan of the same bytes found.
    pub fn set_blocks(&self, blocks: Vec<Block>) -> Result<()> {
        let ascend = blocks
            .windows(2)
            .all(|pair| pair[0].offset < pair[1].offset);
        if !ascend
            || blocks
                .last()
                .is_some_and(|last| last.offset >= self.source.len())
        {
            return Err(TableError::unreadable(
                FORMAT,
                &"its blocks do not lie within it",
            ));
        }
        self.blocks.get_or_init(|| blocks);
        Ok(())
    }

    /// Finds the blocks: one pass over the file.
    pub fn scan(&self) -> Result<()> {
        if self.blocks.get().is_some() {
            return Ok(());
        }
        let mut scanner = Scanner::new(&self.options, self.kinds.len())?;
        let mut buffer = pages(1 << 20)?;
        let (mut at, len) = (0, self.source.len());
        while at < len {
            let take = usize::try_from(len - at)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.source
                .read_at(at, &mut buffer[..take])
                .map_err(TableError::Source)?;
            scanner.feed(&buffer[..take])?;
            at += take as u64;
        }
        let found = scanner.finish()?;
        self.blocks.get_or_init(|| found);
        Ok(())
    }

    /// Reads `columns` of `blocks`; of the whole file when the blocks are not known.
    pub fn read(
        &self,
        columns: &[usize],
        blocks: Range<usize>,
        rows: Option<Rows>,
        batch_rows: usize,
        batch_bytes: u64,
    ) -> Result<CsvBatches> {
        let len = self.source.len();
        let known = self.blocks();
        let (place, line, row) = match known {
            Some(all) if blocks.start < all.len() => {
                let end = all.get(blocks.end).map_or(len, |block| block.offset);
                let row = all[..blocks.start].iter().map(|block| block.rows).sum();
                ((all[blocks.start].offset, end), all[blocks.start].line, row)
            }
            Some(_) => ((len, len), 1, 0),
            None => ((0, len), 1, 0),
        };
        let mut split = Splitter::new(
            Arc::clone(&self.source),
            &self.options,
            place,
            line,
            self.kinds.len(),
        )?;
        if known.is_none() && self.options.header {
            split.advance()?;
        }
        let schema = Arc::new(
            self.schema
                .project(columns)
                .map_err(|e| TableError::unreadable(FORMAT, &e))?,
        );
        Ok(CsvBatches {
            split: Some(split),
            options: self.options.clone(),
            kinds: columns.iter().map(|at| self.kinds[*at]).collect(),
            columns: columns.to_vec(),
            width: self.kinds.len(),
            schema,
            rows,
            row,
            batch_rows,
            batch_bytes,
        })
    }
}

fn check(options: &CsvOptions) -> Result<()> {
    let bad = |what: &str| {
        Err(TableError::Request {
            what: what.to_owned(),
        })
    };
    let forbidden = [b'\n', b'\r', options.quote];
    if forbidden.contains(&options.delimiter) || matches!(options.quote, b'\n' | b'\r') {
        return bad("delimiter and quote must be two different bytes, none of them a line end");
    }
    if !(1..=1 << 30).contains(&options.longest_line) {
        return bad("the longest line must be 1 byte to 1 GiB");
    }
    Ok(())
}

fn names(first: &Splitter, options: &CsvOptions) -> Result<Vec<String>> {
    if !options.header {
        return Ok((0..first.fields())
            .map(|at| format!("column_{at}"))
            .collect());
    }
    let mut names = Vec::with_capacity(first.fields());
    for at in 0..first.fields() {
        let name = std::str::from_utf8(first.field(at)).map_err(|_| {
            first.wrong("a column name is not UTF-8; convert the file (from latin-1, for instance)")
        })?;
        names.push(match name {
            "" => format!("column_{at}"),
            name => name.to_owned(),
        });
    }
    Ok(once(names))
}

/// Each name once: the second `a` is `a_2`, or has the next number that no other column has.
pub fn once(names: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut rename = |name: String| {
        let Some(count) = last.get_mut(&name) else {
            last.insert(name.clone(), 1);
            return name;
        };
        loop {
            *count += 1;
            let other = format!("{name}_{count}");
            if taken.insert(other.clone()) {
                return other;
            }
        }
    };
    names.into_iter().map(&mut rename).collect()
}

/// Batches of some columns of some rows. Ends at the first error.
pub struct CsvBatches {
    split: Option<Splitter>,
    options: CsvOptions,
    /// Positions of the columns in a record, and their types.
    columns: Vec<usize>,
    kinds: Vec<Kind>,
    /// Fields of a record.
    width: usize,
    schema: SchemaRef,
    rows: Option<Rows>,
    /// Number of the next record.
    row: u64,
    batch_rows: usize,
    batch_bytes: u64,
}

impl CsvBatches {
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(mut split) = self.split.take() else {
            return Ok(None);
        };
        // Columns are many or few: together they start with a few MiB.
        let room = (1 << 20) / self.kinds.len().max(1);
        let room = self.batch_rows.min(room.clamp(16, 1 << 16));
        let mut builders: Vec<Builder> = self
            .kinds
            .iter()
            .map(|kind| Builder::new(*kind, room))
            .collect();
        let (mut taken, mut bytes) = (0, 0);
        let mut more = true;
        // A field is no longer than a line, 1 GiB at most: what comes on top of a full batch stays below Arrow's 2^31.
        while taken < self.batch_rows && bytes < self.batch_bytes {
            more = split.advance()?;
            if !more {
                break;
            }
            if split.fields() != self.width {
                return Err(split.wrong(fields_differ(split.fields(), self.width)));
            }
            let row = self.row;
            self.row += 1;
            // A row that is not permitted ends here: none of its fields is parsed or copied.
            if self
                .rows
                .as_ref()
                .is_some_and(|rows| rows.count_within(row..row + 1) == 0)
            {
                continue;
            }
            for (builder, (at, kind)) in builders
                .iter_mut()
                .zip(self.columns.iter().zip(&self.kinds))
            {
                let field = split.field(*at);
                bytes += 8 + field.len() as u64;
                let value = (!self.options.is_null(field)).then_some(field);
                builder.push(value).ok_or_else(|| {
                    let column = self.columns.iter().position(|column| column == at);
                    let fields = self.schema.fields();
                    let column = column.map_or_else(String::new, |at| fields[at].name().clone());
                    let line = split.started();
                    match kind {
                        Kind::Text => TableError::Encoding { line, column },
                        kind => TableError::Value {
                            line,
                            column,
                            kind: kind.name(),
                        },
                    }
                })?;
            }
            taken += 1;
        }
        if more {
            self.split = Some(split);
        }
        if taken == 0 {
            return Ok(None);
        }
        let arrays = builders.into_iter().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(taken));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options);
        Ok(Some(batch.map_err(|e| TableError::unreadable(FORMAT, &e))?))
    }
}
