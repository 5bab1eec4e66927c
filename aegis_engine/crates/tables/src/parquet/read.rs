//! Decoding in steps. A step whose arrays come out too large, or too large for Arrow, is taken again with fewer rows.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};

use super::window::{self, Fault, Reader, Windows};
use super::{ParquetTable, byte_range, damaged, int96, leaves, steps};
use crate::error::{Result, TableError};
use crate::guard::attempted;
use crate::rows::Rows;
use crate::size;

/// Steps are cut to this part when they were too large.
const SHRINK: usize = 8;
/// Rows passed over for one that is decoded, at most, as the decoder goes about it: longer runs are skipped.
const SPREAD: u64 = 32;

/// Batches of some columns. Ends at the first error.
pub struct ParquetBatches {
    table: Arc<ParquetTable>,
    columns: Vec<usize>,
    groups: Range<usize>,
    rows: Option<Rows>,
    /// Rows given out.
    done: u64,
    /// Rows and bytes of a step, at most.
    step: usize,
    room: u64,
    reader: Option<Running>,
    ended: bool,
}

/// A decoder at work, and one that decodes far dates to check nanoseconds by.
struct Running {
    near: ParquetRecordBatchReader,
    far: Option<(ParquetRecordBatchReader, Vec<usize>)>,
    faults: Vec<Fault>,
}

impl ParquetBatches {
    pub(super) fn new(
        table: &Arc<ParquetTable>,
        columns: &[usize],
        groups: &Range<usize>,
        rows: Option<&Rows>,
        (most, room): (usize, u64),
    ) -> Result<Self> {
        let filled: Vec<usize> = table.filled(groups).collect();
        let mut loads = Vec::new();
        for root in columns {
            // A column of several leaves is as heavy as all of them: their chunks are columns of their own here.
            let mut parts: Vec<Vec<steps::Load>> = Vec::new();
            for group in &filled {
                for (at, load) in table.loads(*group, *root).enumerate() {
                    if parts.len() <= at {
                        parts.push(Vec::new());
                    }
                    parts[at].push(load);
                }
            }
            loads.extend(parts);
        }
        let first: u64 = table.groups()[..groups.start].iter().sum();
        let total: u64 = table.groups()[groups.clone()].iter().sum();
        let spread = rows.map_or(1, |rows| {
            let chosen = rows.count_within(first..first + total);
            (total / chosen.max(1)).clamp(1, SPREAD)
        });
        let mut batches = Self {
            table: Arc::clone(table),
            columns: columns.to_vec(),
            groups: groups.clone(),
            rows: rows.cloned(),
            done: 0,
            step: steps::rows(&loads, most, room, spread),
            room,
            reader: None,
            ended: false,
        };
        batches.reader = batches.start()?;
        Ok(batches)
    }

    /// One batch, in the file's order of columns.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        // Errors are given once: after one nothing is decoded any more.
        let next = self.decoded();
        self.ended = !matches!(next, Ok(Some(_)));
        if self.ended {
            self.reader = None;
        }
        next
    }

    fn decoded(&mut self) -> Result<Option<RecordBatch>> {
        while !self.ended {
            // On any error or panic the decoder is gone.
            let running = match self.reader.take() {
                Some(running) => running,
                None => match self.start()? {
                    Some(running) => running,
                    None => return Ok(None),
                },
            };
            let faults = running.faults.clone();
            match attempted(|| running.step()) {
                Some(Ok(None)) => return Ok(None),
                Some(Ok(Some((batch, running)))) => {
                    self.took(&batch, running);
                    return Ok(Some(batch));
                }
                Some(Err(Stop::Told(error))) => return Err(error),
                Some(Err(Stop::Decoder(reason))) => {
                    if let Some(error) = faults.iter().find_map(window::take) {
                        return Err(error);
                    }
                    let large = reason.contains("overflow");
                    if large && self.step == 1 {
                        return Err(TableError::Large {
                            row: self.done,
                            reason,
                        });
                    }
                    if !large {
                        return Err(self.table.undecodable(&reason));
                    }
                    self.step = (self.step / SHRINK).max(1);
                }
                // Panics are how some decoders notice that offsets overflow.
                None if self.step > 1 => self.step = (self.step / SHRINK).max(1),
                None => return Err(damaged(&crate::guard::GAVE_UP)),
            }
        }
        Ok(None)
    }

    /// Counts a step; one that was too large is the last of its size.
    fn took(&mut self, batch: &RecordBatch, running: Running) {
        let rows = batch.num_rows();
        self.done += rows as u64;
        let bytes: u64 = batch
            .columns()
            .iter()
            .map(|array| size::bytes(array, 0, rows))
            .sum();
        if bytes > self.room && rows > 1 && self.step > 1 {
            let fit = self.room.saturating_mul(rows as u64) / bytes;
            // Half of what would fit, for what comes may be larger still.
            let fit = usize::try_from(fit / 2).unwrap_or(usize::MAX);
            self.step = fit.clamp(1, self.step - 1);
        } else {
            self.reader = Some(running);
        }
    }

    /// Decoders that go on after the rows given out; none when there are no more.
    fn start(&self) -> Result<Option<Running>> {
        let Some((groups, selection)) = self.rest()? else {
            return Ok(None);
        };
        let (near, fault) = self.decoder(
            &self.columns,
            &self.table.metadata,
            &groups,
            selection.as_ref(),
        )?;
        let mut running = Running {
            near,
            far: None,
            faults: vec![fault],
        };
        let checked = self.table.checked(&self.columns);
        if let (Some(metadata), false) = (&self.table.far, checked.is_empty()) {
            let (far, fault) = self.decoder(&checked, metadata, &groups, selection.as_ref())?;
            let places = checked.iter().filter_map(|root| {
                let mut all = self.columns.iter();
                all.position(|column| column == root)
            });
            running.far = Some((far, places.collect()));
            running.faults.push(fault);
        }
        Ok(Some(running))
    }

    fn decoder(
        &self,
        columns: &[usize],
        metadata: &ArrowReaderMetadata,
        groups: &[usize],
        selection: Option<&RowSelection>,
    ) -> Result<(ParquetRecordBatchReader, Fault)> {
        let all = metadata.metadata().row_groups();
        let mut ranges = Vec::new();
        let mut windows = 0;
        for group in groups {
            let mut column = 0;
            for root in columns {
                for (_, chunk) in leaves(metadata, &all[*group], *root) {
                    ranges.push((byte_range(chunk)?, column));
                    column += 1;
                }
            }
            windows = column;
        }
        let windows = Windows::new(Arc::clone(&self.table.source), ranges, windows)?;
        let fault = windows.fault();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            Reader(Arc::new(windows)),
            metadata.clone(),
        )
        .with_projection(mask)
        .with_row_groups(groups.to_vec())
        .with_batch_size(self.step);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection.clone());
        }
        let reader = builder
            .build()
            .map_err(|e| window::take(&fault).unwrap_or_else(|| damaged(&e)))?;
        Ok((reader, fault))
    }

    /// The row groups that are left, and which of their rows; all without a selection.
    fn rest(&self) -> Result<Option<(Vec<usize>, Option<RowSelection>)>> {
        let counts = self.table.groups();
        let first: u64 = counts[..self.groups.start].iter().sum();
        let end = first + counts[self.groups.clone()].iter().sum::<u64>();
        // The first row that is left, by its number in the file.
        let next = match &self.rows {
            None => Some(first + self.done).filter(|next| *next < end),
            Some(rows) => rows.nth_within(first..end, self.done),
        };
        let Some(next) = next else { return Ok(None) };
        let (mut start, mut from) = (first, self.groups.start);
        while start + counts[from] <= next {
            start += counts[from];
            from += 1;
        }
        let groups = self.table.filled(&(from..self.groups.end)).collect();
        let fit = |n: u64| usize::try_from(n).map_err(|_| damaged(&"too many rows"));
        let runs: Vec<Range<u64>> = match &self.rows {
            None if next == start => return Ok(Some((groups, None))),
            None => std::iter::once(next..end).collect(),
            Some(rows) => rows.within(next..end).collect(),
        };
        let runs = runs
            .into_iter()
            .map(|run| Ok(fit(run.start - start)?..fit(run.end - start)?))
            .collect::<Result<Vec<_>>>()?;
        let selection = RowSelection::from_consecutive_ranges(runs.into_iter(), fit(end - start)?);
        Ok(Some((groups, Some(selection))))
    }
}

/// Why a step gave no batch.
enum Stop {
    Decoder(String),
    Told(TableError),
}

impl Running {
    /// One step of both decoders.
    fn step(mut self) -> std::result::Result<Option<(RecordBatch, Self)>, Stop> {
        let next = |reader: &mut ParquetRecordBatchReader| {
            let next = reader.next().transpose();
            next.map_err(|error| Stop::Decoder(error.to_string()))
        };
        let near = next(&mut self.near)?;
        let far = match &mut self.far {
            Some((far, _)) => next(far)?,
            None => None,
        };
        let Some(near) = near else { return Ok(None) };
        if let (Some((_, places)), Some(far)) = (&self.far, &far) {
            let some = near
                .project(places)
                .map_err(|error| Stop::Decoder(error.to_string()))?;
            int96::check(&some, far).map_err(Stop::Told)?;
        }
        Ok(Some((near, self)))
    }
}
