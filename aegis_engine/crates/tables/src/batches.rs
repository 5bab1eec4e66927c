//! Batches of a scan, decoded by one thread or by several that share the columns.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;

use crate::csv::CsvBatches;
use crate::error::{Result, TableError};
use crate::guard::guarded;
use crate::parquet::ParquetBatches;
use crate::source::Source;
use crate::table::{Format, Inner, Scan, Table};

/// Batches decoded ahead by each thread.
const AHEAD: usize = 2;

/// Yields record batches. Ends at the first error; before each batch the source is asked whether reading is still allowed.
pub struct Batches {
    source: Arc<dyn Source>,
    schema: SchemaRef,
    format: Format,
    lanes: Option<Lanes>,
}

enum Lanes {
    Csv(Box<CsvBatches>),
    /// With the position in the output of each decoded column.
    Parquet(Box<ParquetBatches>, Vec<usize>),
    Threads(Vec<Lane>),
}

/// A thread that decodes some of the columns.
struct Lane {
    batches: Option<Receiver<Result<Option<RecordBatch>>>>,
    columns: Vec<usize>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        // A thread that waits for room ends when nobody receives any more.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn start(
    table: &Arc<Table>,
    schema: SchemaRef,
    places: &[usize],
    blocks: Range<usize>,
    scan: Scan,
) -> Result<Batches> {
    let format = table.format();
    let lanes = match &table.inner {
        Inner::Csv(csv) => Lanes::Csv(Box::new(csv.read(
            places,
            blocks,
            scan.rows,
            scan.batch_rows,
        )?)),
        Inner::Parquet(parquet) if scan.threads > 1 && places.len() > 1 => {
            let weights = parquet.weights(places, &blocks);
            let mut lanes = Vec::new();
            for share in shares(&weights, scan.threads) {
                lanes.push(lane(table, places, share, &blocks, &scan)?);
            }
            Lanes::Threads(lanes)
        }
        Inner::Parquet(parquet) => {
            let (columns, order) = ascending(places, (0..places.len()).collect());
            Lanes::Parquet(
                Box::new(parquet.read(&columns, &blocks, scan.rows.as_ref(), scan.batch_rows)?),
                order,
            )
        }
    };
    Ok(Batches {
        source: Arc::clone(&table.source),
        schema,
        format,
        lanes: Some(lanes),
    })
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
) -> Result<Lane> {
    let (columns, order) = ascending(places, share);
    let (send, batches) = sync_channel(AHEAD);
    let (table, blocks, scan) = (Arc::clone(table), blocks.clone(), scan.clone());
    let work = move || {
        let Inner::Parquet(parquet) = &table.inner else {
            return;
        };
        let mut reader = match parquet.read(&columns, &blocks, scan.rows.as_ref(), scan.batch_rows)
        {
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
        batches: Some(batches),
        columns: order,
        thread: Some(thread),
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
        let columns = self.schema.fields().len();
        let arrays = match &mut lanes {
            Lanes::Csv(csv) => {
                guarded("CSV", || csv.next_batch())?.map(|batch| batch.columns().to_vec())
            }
            Lanes::Parquet(parquet, order) => parquet
                .next_batch()?
                .map(|batch| sorted(columns, [(&batch, &**order)]))
                .transpose()?,
            Lanes::Threads(threads) => gather(columns, threads)?,
        };
        let Some(arrays) = arrays else {
            return Ok(None);
        };
        self.source.admit().map_err(TableError::Source)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|e| TableError::unreadable(self.format.name(), &e))?;
        self.lanes = Some(lanes);
        Ok(Some(batch))
    }
}

/// One batch of every thread, or the end of all.
fn gather(columns: usize, threads: &[Lane]) -> Result<Option<Vec<ArrayRef>>> {
    let mut parts = Vec::with_capacity(threads.len());
    for lane in threads {
        let next = lane
            .batches
            .as_ref()
            .and_then(|batches| batches.recv().ok());
        parts.push(next.unwrap_or_else(|| {
            Err(TableError::unreadable(
                "Parquet",
                &"a decoding thread ended early",
            ))
        })?);
    }
    let parts: Vec<_> = parts
        .iter()
        .zip(threads)
        .filter_map(|(batch, lane)| Some((batch.as_ref()?, &*lane.columns)))
        .collect();
    match parts.len() {
        0 => Ok(None),
        n if n == threads.len() => sorted(columns, parts).map(Some),
        _ => Err(TableError::unreadable(
            "Parquet",
            &"its columns differ in length",
        )),
    }
}

/// Arrays in the order of the output.
fn sorted<'b>(
    columns: usize,
    parts: impl IntoIterator<Item = (&'b RecordBatch, &'b [usize])>,
) -> Result<Vec<ArrayRef>> {
    let mut out: Vec<Option<ArrayRef>> = vec![None; columns];
    for (batch, places) in parts {
        for (array, place) in batch.columns().iter().zip(places) {
            out[*place] = Some(Arc::clone(array));
        }
    }
    let all: Option<Vec<ArrayRef>> = out.into_iter().collect();
    let all = all.filter(|all| all.windows(2).all(|pair| pair[0].len() == pair[1].len()));
    all.ok_or_else(|| TableError::unreadable("Parquet", &"its columns differ in length"))
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
