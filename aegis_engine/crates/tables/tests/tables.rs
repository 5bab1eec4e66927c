//! What is read, what is not even asked for, and what damaged files do.
#![allow(missing_docs)]
// Row numbers are small, and tests read better without ceremony.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
#![allow(clippy::unnecessary_wraps, clippy::format_push_string)]

use std::sync::{Arc, Mutex};

use aegis_tables::{CsvOptions, Rows, Scan, Scanner, Source, SourceError, Table, TableError};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

const ROWS: i64 = 5000;

fn parquet(compression: Compression) -> Vec<u8> {
    let id: ArrayRef = Arc::new((0..ROWS).collect::<Int64Array>());
    let x: ArrayRef = Arc::new((0..ROWS).map(|n| n as f32).collect::<Float32Array>());
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..ROWS).map(|n| format!("row {n}")),
    ));
    let batch = RecordBatch::try_from_iter([("id", id), ("x", x), ("text", text)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(2000))
        .set_data_page_row_count_limit(300)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Notes the ranges asked for.
struct Noting(Vec<u8>, Mutex<Vec<(u64, u64)>>);

impl Source for Noting {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.1
            .lock()
            .unwrap()
            .push((offset, offset + out.len() as u64));
        Source::read_at(&self.0, offset, out)
    }
}

fn ids(batches: impl IntoIterator<Item = Result<RecordBatch, TableError>>) -> Vec<i64> {
    let mut all = Vec::new();
    for batch in batches {
        all.extend_from_slice(
            batch
                .unwrap()
                .column_by_name("id")
                .unwrap()
                .as_primitive::<Int64Type>()
                .values(),
        );
    }
    all
}

fn columns(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn bytes_of_other_columns_are_never_asked_for() {
    let file = parquet(Compression::UNCOMPRESSED);
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new()
        .parse_and_finish(&bytes::Bytes::from(file.clone()))
        .unwrap();
    for threads in [1, 2] {
        let source = Arc::new(Noting(file.clone(), Mutex::default()));
        let table = Arc::new(Table::parquet(source.clone(), false).unwrap());
        source.1.lock().unwrap().clear();
        let scan = Scan {
            columns: columns(&["text", "id"]),
            threads,
            ..Scan::default()
        };
        assert_eq!(
            ids(table.read(scan).unwrap()),
            (0..ROWS).collect::<Vec<_>>()
        );
        let asked = source.1.lock().unwrap().clone();
        assert!(!asked.is_empty());
        for group in metadata.row_groups() {
            let (start, len) = group.column(1).byte_range();
            let touched = asked
                .iter()
                .any(|(from, to)| *from < start + len && start < *to);
            assert!(!touched, "column x at {start}: {asked:?}");
        }
    }
}

#[test]
fn rows_columns_blocks_and_their_order_are_those_asked_for() {
    let source: Arc<dyn Source> = Arc::new(parquet(Compression::ZSTD(ZstdLevel::default())));
    let table = Arc::new(Table::parquet(source, true).unwrap());
    assert_eq!(table.blocks(), Some(vec![2000, 2000, 1000]));
    let wanted: Vec<i64> = (0..ROWS)
        .filter(|n| n % 7 == 3 || (2500..2700).contains(n))
        .collect();
    let rows: Rows = wanted.iter().map(|n| u64::try_from(*n).unwrap()).collect();
    for threads in [1, 3] {
        let scan = Scan {
            rows: Some(rows.clone()),
            columns: columns(&["x", "id"]),
            batch_rows: 333,
            threads,
            ..Scan::default()
        };
        let batches: Vec<_> = table.read(scan.clone()).unwrap().collect();
        for batch in &batches {
            let batch = batch.as_ref().unwrap();
            assert!(batch.num_rows() <= 333);
            assert_eq!(batch.schema().field(0).name(), "x");
            let (x, id) = (
                batch.column(0).as_primitive::<Float32Type>(),
                batch.column(1).as_primitive::<Int64Type>(),
            );
            assert!(
                x.values()
                    .iter()
                    .zip(id.values())
                    .all(|(x, id)| *x as i64 == *id)
            );
        }
        assert_eq!(ids(batches), wanted);
        let second: Vec<i64> = wanted
            .iter()
            .copied()
            .filter(|n| (2000..4000).contains(n))
            .collect();
        assert_eq!(
            ids(table
                .read(Scan {
                    blocks: Some(1..2),
                    ..scan
                })
                .unwrap()),
            second
        );
    }
}

/// Opens and reads it all; the only thing that may not happen is a panic, or an error without words.
fn survive(table: Result<Table, TableError>) {
    let outcome = table.and_then(|table| {
        let table = Arc::new(table);
        table.scan()?;
        for batch in table.read(Scan {
            batch_rows: 1000,
            ..Scan::default()
        })? {
            batch?;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty());
        assert!(!error.to_string().contains("row 1"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_parquet_gives_an_error(
        zstd in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut file = parquet(if zstd { Compression::ZSTD(ZstdLevel::default()) } else { Compression::SNAPPY });
        let len = file.len();
        for (at, byte, tail) in changes {
            // Half of the changes hit the footer.
            let at = if tail { len - 1 - at.index(2000.min(len)) } else { at.index(len) };
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(len));
        }
        survive(Table::parquet(Arc::new(file), false));
    }

    #[test]
    fn any_bytes_read_as_csv_or_give_an_error(file in prop::collection::vec(prop_oneof![
        Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..600)) {
        survive(Table::csv(Arc::new(file), CsvOptions::default()));
    }

    #[test]
    fn scanner_and_reader_count_the_same_rows(
        rows in prop::collection::vec(("[a-z\"\n, ]{0,8}", -1000_i64..1000), 1..60),
        step in 1_usize..50, crlf in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut file = format!("t,id{end}");
        for (text, id) in &rows {
            file += &format!("\"{}\",{id}{end}", text.replace('"', "\"\""));
        }
        let mut scanner = Scanner::new(&CsvOptions::default(), 2).unwrap();
        for part in file.as_bytes().chunks(step) {
            scanner.feed(part).unwrap();
        }
        let blocks = scanner.finish().unwrap();
        prop_assert_eq!(blocks.iter().map(|block| block.rows).sum::<u64>(), rows.len() as u64);
        let table = Arc::new(Table::csv(Arc::new(file.into_bytes()), CsvOptions::default()).unwrap());
        let read = ids(table.read(Scan::default()).unwrap());
        prop_assert_eq!(&read, &rows.iter().map(|(_, id)| *id).collect::<Vec<_>>());
        table.set_blocks(blocks).unwrap();
        let odd: Rows = (0..rows.len() as u64).filter(|n| n % 2 == 1).collect();
        let read = ids(table.read(Scan { rows: Some(odd), columns: columns(&["id"]), ..Scan::default() }).unwrap());
        prop_assert_eq!(read, rows.iter().skip(1).step_by(2).map(|(_, id)| *id).collect::<Vec<_>>());
    }
}

#[test]
fn csv_errors_name_the_line_and_never_the_field() {
    let read = |text: &str, options: CsvOptions| {
        let table = Arc::new(Table::csv(Arc::new(text.as_bytes().to_vec()), options)?);
        table
            .read(Scan::default())?
            .try_for_each(|batch| batch.map(drop))
    };
    let types = vec![("b".to_owned(), aegis_tables::Kind::I64)];
    let error = read(
        "a,b\r\n\"x\r\ny\",1\r\nz,secret\r\n",
        CsvOptions {
            types,
            ..CsvOptions::default()
        },
    )
    .unwrap_err();
    assert!(
        matches!(&error, TableError::Value { line: 4, column, kind: "i64" } if column == "b"),
        "{error:?}"
    );
    assert!(!error.to_string().contains("secret"));
    let error = read(
        &format!("a,b\n1,{}\n", "9".repeat(5000)),
        CsvOptions {
            longest_line: 1000,
            ..CsvOptions::default()
        },
    )
    .unwrap_err();
    assert!(
        matches!(error, TableError::Line { line: 2, .. }),
        "{error:?}"
    );
    let error = read("a,b\n1,2\n3\n", CsvOptions::default()).unwrap_err();
    assert!(
        matches!(error, TableError::Line { line: 3, .. }),
        "{error:?}"
    );
}

/// Refuses after some reads.
struct Refusing(Vec<u8>, Mutex<u32>);

impl Source for Refusing {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        Source::read_at(&self.0, offset, out)
    }
    fn admit(&self) -> Result<(), SourceError> {
        let mut left = self.1.lock().unwrap();
        *left = left.checked_sub(1).ok_or("no longer allowed")?;
        Ok(())
    }
}

#[test]
fn a_source_that_refuses_ends_the_scan_before_the_next_batch() {
    for threads in [1, 2] {
        let source = Arc::new(Refusing(parquet(Compression::SNAPPY), Mutex::new(2)));
        let table = Arc::new(Table::parquet(source, false).unwrap());
        let mut batches = table
            .read(Scan {
                batch_rows: 100,
                threads,
                ..Scan::default()
            })
            .unwrap();
        assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
        assert!(
            matches!(batches.next(), Some(Err(TableError::Source(e))) if e.to_string() == "no longer allowed")
        );
        assert!(batches.next().is_none());
    }
}
