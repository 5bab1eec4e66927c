//! Batches of a scan, decoded by one thread or by several that share the columns.
//!
//! Each decoder gives pieces of as many rows as it finds right for its own columns. Here they are cut to equal rows and put
//! together to batches, which have a bound in rows and in bytes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat;

use crate::csv::CsvBatches;
use crate::error::{Result, TableError};
use crate::guard::guarded;
use crate::parquet::ParquetBatches;
use crate::scan::{Format, Scan, aim};
use crate::schema::positions;
use crate::size;
use crate::source::Source;
use crate::table::{Inner, Table};

/// Rows of a batch, at most: its arrays must stay addressable.
const BATCH_MAX: usize = 1 << 24;
/// Batches decoded ahead by each thread.
const AHEAD: usize = 2;
/// A batch with this part of its bytes goes out as it is: putting more to it would copy it.
const ENOUGH: u64 = 4;

/// Yields record batches. Ends at the first error; before each batch the source is asked whether reading is still allowed.
pub struct Batches {
    source: Arc<dyn Source>,
    schema: SchemaRef,
    format: Format,
    lanes: Option<Vec<Lane>>,
    batch_rows: usize,
    batch_bytes: u64,
    /// Whether pieces can be put together.
    joins: bool,
}

/// Some of the columns, and where they are in the output.
struct Lane {
    decoder: Decoder,
    columns: Vec<usize>,
    /// Rows that are not given out yet.
    left: Option<RecordBatch>,
    ended: bool,
}

enum Decoder {
    Csv(Box<CsvBatches>),
    Parquet(Box<ParquetBatches>),
    Thread(Worker),
}

/// A thread that decodes.
struct Worker {
    batches: Option<Receiver<Result<Option<RecordBatch>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A thread that waits for room ends when nobody receives any more.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Decoder {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Self::Csv(csv) => guarded("CSV", || csv.next_batch()),
            Self::Parquet(parquet) => parquet.next_batch(),
            Self::Thread(worker) => {
                let next = worker.batches.as_ref().and_then(|all| all.recv().ok());
                next.unwrap_or_else(|| {
                    Err(TableError::unreadable(
                        "Parquet",
                        &"a decoding thread ended early",
                    ))
                })
            }
        }
    }
}

impl Lane {
    /// Rows that can be taken; none at the end.
    fn ready(&mut self) -> Result<Option<usize>> {
        while self.left.as_ref().is_none_or(|left| left.num_rows() == 0) {
            if !self.ended {
                self.left = self.decoder.next_batch()?;
                self.ended = self.left.is_none();
            }
            if self.ended {
                return Ok(None);
            }
        }
        Ok(self.left.as_ref().map(RecordBatch::num_rows))
    }

    fn take(&mut self, rows: usize) -> Option<RecordBatch> {
        let left = self.left.take()?;
        if rows < left.num_rows() {
            self.left = Some(left.slice(rows, left.num_rows() - rows));
            return Some(left.slice(0, rows));
        }
        Some(left)
    }
}

impl Table {
    /// Reads. Nothing is decoded before the first batch is asked for, unless there are several threads.
    pub fn read(self: &Arc<Self>, scan: Scan) -> Result<Batches> {
        if !(1..=BATCH_MAX).contains(&scan.batch_rows) {
            let what = format!("a batch has 1 to {BATCH_MAX} rows, not {}", scan.batch_rows);
            return Err(TableError::Request { what });
        }
        let mut schema = self.schema_of(scan.columns.as_deref())?;
        let mut places = positions(self.schema(), scan.columns.as_deref())?;
        if let Some(some) = &scan.places {
            let none = |_| TableError::Request {
                what: "there is no such column".to_owned(),
            };
            schema = Arc::new(schema.project(some).map_err(none)?);
            places = some.iter().map(|at| places[*at]).collect();
        }
        let blocks = match (&scan.blocks, self.blocks()) {
            (None, known) => 0..known.map_or(0, |all| all.len()),
            (Some(range), Some(all)) if range.start <= range.end && range.end <= all.len() => {
                range.clone()
            }
            (Some(_), _) => {
                let what = "there is no such block; count them first".to_owned();
                return Err(TableError::Request { what });
            }
        };
        start(self, schema, &places, blocks, scan)
    }
}

fn start(
    table: &Arc<Table>,
    schema: SchemaRef,
    places: &[usize],
    blocks: Range<usize>,
    scan: Scan,
) -> Result<Batches> {
    let format = table.format();
    let all: Vec<usize> = (0..places.len()).collect();
    let most = widest(&schema, scan.batch_rows, scan.batch_bytes);
    let (batch_rows, batch_bytes) = (scan.batch_rows, scan.batch_bytes.max(1));
    let lanes = match &table.inner {
        Inner::Csv(csv) => vec![Lane {
            decoder: Decoder::Csv(Box::new(csv.read(
                places,
                blocks,
                scan.rows,
                most,
                batch_bytes,
            )?)),
            columns: all,
            left: None,
            ended: false,
        }],
        Inner::Parquet(parquet) if scan.threads > 1 && places.len() > 1 => {
            let weights = parquet.weights(places, &blocks);
            let shares = shares(&weights, scan.threads);
            let room = (aim(batch_bytes) / shares.len().max(1) as u64).max(1);
            let mut lanes = Vec::new();
            for share in shares {
                lanes.push(lane(table, places, share, &blocks, &scan, (most, room))?);
            }
            lanes
        }
        Inner::Parquet(parquet) => {
            let (columns, order) = ascending(places, all);
            let room = (most, aim(batch_bytes).max(1));
            let decoder = parquet.read(&columns, &blocks, scan.rows.as_ref(), room)?;
            vec![Lane {
                decoder: Decoder::Parquet(Box::new(decoder)),
                columns: order,
                left: None,
                ended: false,
            }]
        }
    };
    Ok(Batches {
        source: Arc::clone(&table.source),
        joins: size::joins(&schema),
        schema,
        format,
        lanes: Some(lanes),
        batch_rows,
        batch_bytes,
    })
}

/// Rows that columns of values of one size leave room for.
fn widest(schema: &SchemaRef, rows: usize, bytes: u64) -> usize {
    let widths = schema.fields().iter();
    // A bit more says whether a value is missing.
    let bits: u64 = widths
        .filter_map(|field| Some(size::width(field.data_type())? + u64::from(field.is_nullable())))
        .sum();
    let fit = aim(bytes).saturating_mul(8) / bits.max(1);
    rows.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

/// The positions in the file of the output columns `share`, ascending, and the output column of each.
fn ascending(places: &[usize], mut share: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
    share.sort_unstable_by_key(|at| places[*at]);
    (share.iter().map(|at| places[*at]).collect(), share)
}

/// Shares columns out, the heaviest first, each to whom has least.
fn shares(weights: &[u64], threads: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(weights[*at]));
    let mut shares = vec![(0_u64, Vec::new()); threads.min(weights.len())];
    for at in order {
        if let Some((sum, share)) = shares
            .iter_mut()
            .min_by_key(|(sum, share)| (*sum, share.len()))
        {
            *sum += weights[at];
            share.push(at);
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

fn lane(
    table: &Arc<Table>,
    places: &[usize],
    share: Vec<usize>,
    blocks: &Range<usize>,
    scan: &Scan,
    room: (usize, u64),
) -> Result<Lane> {
    let (columns, order) = ascending(places, share);
    let (send, batches) = sync_channel(AHEAD);
    let (table, blocks, rows) = (Arc::clone(table), blocks.clone(), scan.rows.clone());
    let work = move || {
        let Inner::Parquet(parquet) = &table.inner else {
            return;
        };
        let mut reader = match parquet.read(&columns, &blocks, rows.as_ref(), room) {
            Ok(reader) => reader,
            Err(error) => {
                let _ = send.send(Err(error));
                return;
            }
        };
        loop {
            let next = reader.next_batch();
            let last = !matches!(next, Ok(Some(_)));
            // Nobody receives: the scan was given up.
            if send.send(next).is_err() || last {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("aegis-table".to_owned())
        .spawn(work)
        .map_err(|e| TableError::Source(Box::new(e)))?;
    Ok(Lane {
        decoder: Decoder::Thread(Worker {
            batches: Some(batches),
            thread: Some(thread),
        }),
        columns: order,
        left: None,
        ended: false,
    })
}

impl Batches {
    /// Schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch; `None` at the end, and after an error.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(mut lanes) = self.lanes.take() else {
            return Ok(None);
        };
        let Some((pieces, rows)) =
            guarded(self.format.name(), || self.pieces(&mut lanes))?.filter(|(_, rows)| *rows > 0)
        else {
            return Ok(None);
        };
        self.source.admit().map_err(TableError::Source)?;
        let batch = guarded(self.format.name(), || self.joined(pieces, rows))?;
        self.lanes = Some(lanes);
        Ok(Some(batch))
    }

    /// Pieces of the next batch, each in the order of the output, and their rows.
    fn pieces(&self, lanes: &mut [Lane]) -> Result<Option<(Vec<Vec<ArrayRef>>, usize)>> {
        let (mut pieces, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while rows < self.batch_rows {
            let Some(ready) = ready(lanes)? else { break };
            let most = ready.min(self.batch_rows - rows);
            let fronts: Vec<ArrayRef> = lanes
                .iter()
                .filter_map(|lane| lane.left.as_ref())
                .flat_map(|left| left.columns().iter().map(Arc::clone))
                .collect();
            let mut fit = size::fitting(&fronts, 0, most, self.batch_bytes.saturating_sub(bytes));
            if fit == 0 && rows > 0 {
                break;
            }
            // A row that is larger than a batch is a batch.
            fit = fit.max(1);
            bytes += fronts
                .iter()
                .map(|array| size::bytes(array, 0, fit))
                .sum::<u64>();
            drop(fronts);
            pieces.push(sorted(self.schema.fields().len(), lanes, fit)?);
            rows += fit;
            if fit < most || bytes >= self.batch_bytes / ENOUGH || !self.joins {
                break;
            }
        }
        Ok((rows > 0).then_some((pieces, rows)))
    }

    fn joined(&self, mut pieces: Vec<Vec<ArrayRef>>, rows: usize) -> Result<RecordBatch> {
        let wrong = |error: &arrow_schema::ArrowError| {
            TableError::unreadable(self.format.name(), &error.to_string())
        };
        let arrays = if pieces.len() == 1 {
            pieces.remove(0)
        } else {
            (0..self.schema.fields().len())
                .map(|at| {
                    let parts: Vec<&dyn Array> = pieces.iter().map(|p| p[at].as_ref()).collect();
                    concat(&parts).map_err(|e| wrong(&e))
                })
                .collect::<Result<_>>()?
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|e| wrong(&e))
    }
}

/// Rows that every lane has; none when all are at their end.
fn ready(lanes: &mut [Lane]) -> Result<Option<usize>> {
    let mut found = Vec::with_capacity(lanes.len());
    for lane in lanes.iter_mut() {
        found.push(lane.ready()?);
    }
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let rows: Option<Vec<usize>> = found.into_iter().collect();
    let rows = rows.and_then(|rows| rows.into_iter().min());
    rows.map(Some).ok_or_else(differ)
}

fn differ() -> TableError {
    TableError::unreadable("Parquet", &"its columns differ in length")
}

/// The next rows of every lane, in the order of the output.
fn sorted(columns: usize, lanes: &mut [Lane], rows: usize) -> Result<Vec<ArrayRef>> {
    let mut out: Vec<Option<ArrayRef>> = vec![None; columns];
    for lane in lanes {
        let batch = lane.take(rows).ok_or_else(differ)?;
        for (array, place) in batch.columns().iter().zip(&lane.columns) {
            out[*place] = Some(Arc::clone(array));
        }
    }
    let all: Option<Vec<ArrayRef>> = out.into_iter().collect();
    all.ok_or_else(differ)
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
