//! Batches have a bound in bytes, whatever the file says of itself; what holds no rows is read as that.
#![allow(missing_docs)]
// Numbers are small here, and the casts say so best.
#![allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]

use std::sync::Arc;

use aegis_tables::{CsvOptions, Kind, Rows, Scan, Table, TableError};
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

const ROWS: usize = 6000;
const BYTES: u64 = 256 << 10;

/// Text of a few different values, so that the file has them in a dictionary; every hundredth is long, and a run of rows
/// has nothing but long ones.
fn texts() -> impl Iterator<Item = String> {
    (0..ROWS).map(|n| match n {
        3000..3200 => "x".repeat(20_000),
        n if n % 100 == 0 => "y".repeat(3000),
        n => format!("{}", n % 7),
    })
}

fn batch() -> RecordBatch {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for (n, text) in texts().enumerate() {
        for _ in 0..n % 3 {
            lists.values().append_value(&text);
        }
        lists.append(n % 5 != 0);
    }
    let id: ArrayRef = Arc::new((0..ROWS as i64).collect::<Int64Array>());
    let text: ArrayRef = Arc::new(texts().map(Some).collect::<StringArray>());
    let large: ArrayRef = Arc::new(texts().map(Some).collect::<LargeStringArray>());
    let view: ArrayRef = Arc::new(texts().map(Some).collect::<StringViewArray>());
    let columns = [
        ("id", id),
        ("text", text),
        ("large", large),
        ("view", view),
        ("list", Arc::new(lists.finish())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet(dictionary: bool, group: usize) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(dictionary)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(group))
        .build();
    let batch = batch();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Bytes that the rows of a batch come to, as Arrow itself counts them.
fn bytes(batch: &RecordBatch) -> u64 {
    let own = |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap();
    let of = |array: &ArrayRef| match array.as_list_opt::<i32>() {
        // Of the values of a list only those that its rows point to: Arrow counts what a slice shares with others.
        Some(list) => {
            let offsets = list.value_offsets();
            let (start, end) = (offsets[0] as usize, offsets[list.len()] as usize);
            4 * list.len() + own(&list.values().slice(start, end - start))
        }
        None => own(array),
    };
    batch.columns().iter().map(of).sum::<usize>() as u64
}

#[test]
fn a_batch_has_no_more_bytes_than_allowed_unless_a_single_row_has() {
    let whole = batch();
    for (dictionary, group) in [(true, ROWS), (true, 700), (false, ROWS)] {
        let table = Table::parquet(Arc::new(parquet(dictionary, group)), true).unwrap();
        let table = Arc::new(table);
        for (threads, every) in [(1, 1), (3, 1), (2, 3), (1, 40)] {
            let rows: Rows = (0..ROWS as u64).filter(|n| n % every == 0).collect();
            let scan = Scan {
                rows: (every > 1).then_some(rows),
                batch_bytes: BYTES,
                threads,
                ..Scan::default()
            };
            let mut next = 0;
            for batch in table.read(scan).unwrap() {
                let batch = batch.unwrap();
                let size = bytes(&batch);
                assert!(
                    size <= BYTES || batch.num_rows() == 1,
                    "{} rows of {size} bytes",
                    batch.num_rows()
                );
                let id = batch.column(0).as_primitive::<Int64Type>();
                for row in 0..batch.num_rows() {
                    assert_eq!(id.value(row) as u64, next);
                    let at = next as usize;
                    let text = whole.column(1).as_string::<i32>().value(at);
                    assert_eq!(batch.column(1).as_string::<i32>().value(row), text);
                    assert_eq!(batch.column(2).as_string::<i64>().value(row), text);
                    assert_eq!(batch.column(3).as_string::<i32>().value(row), text);
                    let (mine, theirs) = (
                        batch.column(4).as_list::<i32>(),
                        whole.column(4).as_list::<i32>(),
                    );
                    assert_eq!(mine.is_null(row), theirs.is_null(at));
                    if mine.is_valid(row) {
                        assert_eq!(&mine.value(row), &theirs.value(at));
                    }
                    next += every;
                }
            }
            assert_eq!(next, (ROWS as u64).next_multiple_of(every));
        }
    }
}

#[test]
fn small_batches_are_full_and_large_steps_are_not_copied_in_vain() {
    let table = Arc::new(Table::parquet(Arc::new(parquet(true, ROWS)), true).unwrap());
    let scan = Scan {
        columns: Some(vec!["id".to_owned()]),
        batch_rows: 500,
        ..Scan::default()
    };
    let sizes: Vec<usize> = table
        .read(scan)
        .unwrap()
        .map(|b| b.unwrap().num_rows())
        .collect();
    assert_eq!(sizes, [500; 12]);
}

#[test]
fn lines_of_csv_end_a_batch_by_their_bytes() {
    let mut file = "a,b\n".to_owned();
    for text in texts() {
        file += "1,";
        file += &text;
        file += "\n";
    }
    let table = Arc::new(Table::csv(Arc::new(file.into_bytes()), CsvOptions::default()).unwrap());
    let scan = Scan {
        batch_bytes: BYTES,
        ..Scan::default()
    };
    let mut rows = 0;
    for batch in table.read(scan).unwrap() {
        let batch = batch.unwrap();
        assert!(bytes(&batch) <= BYTES);
        rows += batch.num_rows();
    }
    assert_eq!(rows, ROWS);
}

#[test]
fn groups_without_rows_are_passed_wherever_they_are() {
    let schema = Arc::new(
        parse_message_type("message m { required int64 a; required int64 b; required int64 c; }")
            .unwrap(),
    );
    for groups in [
        &[][..],
        &[0],
        &[0, 0],
        &[0, 3],
        &[3, 0],
        &[3, 0, 2],
        &[0, 3, 0, 0, 2, 0],
    ] {
        let mut writer =
            SerializedFileWriter::new(Vec::new(), Arc::clone(&schema), Arc::default()).unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            while let Some(mut column) = group.next_column().unwrap() {
                let values: Vec<i64> = (0..*rows).collect();
                column
                    .typed::<parquet::data_type::Int64Type>()
                    .write_batch(&values, None, None)
                    .unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        let file = writer.into_inner().unwrap();
        for threads in 1..5 {
            let table = Arc::new(Table::parquet(Arc::new(file.clone()), false).unwrap());
            let scan = Scan {
                threads,
                ..Scan::default()
            };
            let rows: usize = table
                .read(scan.clone())
                .unwrap()
                .map(|batch| batch.unwrap().num_rows())
                .sum();
            assert_eq!(rows as i64, groups.iter().sum::<i64>(), "{groups:?}");
            for (at, rows) in groups.iter().enumerate() {
                let scan = Scan {
                    blocks: Some(at..at + 1),
                    ..scan.clone()
                };
                let found: usize = table
                    .read(scan)
                    .unwrap()
                    .map(|batch| batch.unwrap().num_rows())
                    .sum();
                assert_eq!(found as i64, *rows);
            }
        }
    }
}

/// Names, types and batches of a file.
type Read = (Vec<String>, Vec<Kind>, Vec<RecordBatch>);

fn csv(text: &str, options: CsvOptions) -> Result<Read, TableError> {
    let table = Arc::new(Table::csv(Arc::new(text.as_bytes().to_vec()), options)?);
    let names = table
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let kinds = table.kinds().unwrap().to_vec();
    let batches = table.read(Scan::default())?.collect::<Result<_, _>>()?;
    // The scanner sees the same rows, and the same faults.
    table.scan()?;
    let counted: usize = table
        .read(Scan::default())?
        .map(|batch| batch.unwrap().num_rows())
        .sum();
    let read = |all: &Vec<RecordBatch>| all.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(counted, read(&batches));
    Ok((names, kinds, batches))
}

#[test]
fn every_column_has_a_name_of_its_own() {
    let names = |header: &str| {
        csv(&format!("{header}\n"), CsvOptions::default())
            .unwrap()
            .0
    };
    assert_eq!(names(",a,b"), ["column_0", "a", "b"]);
    assert_eq!(names("a,a,a_2,a"), ["a", "a_3", "a_2", "a_4"]);
    assert_eq!(names("a,b,"), ["a", "b", "column_2"]);
    assert_eq!(names(",column_0"), ["column_0", "column_0_2"]);
}

#[test]
fn types_come_from_many_lines_however_wide_they_are() {
    let columns = 3000;
    let line = |field: &str| vec![field; columns].join(",");
    let names: Vec<String> = (0..columns).map(|n| format!("g{n:05}")).collect();
    // 999 lines of 6 kB are 6 MiB, far more than the prefix.
    let file = format!(
        "{}\n{}{}\n",
        names.join(","),
        format!("{}\n", line("0")).repeat(999),
        line("0.5")
    );
    let (_, kinds, batches) = csv(&file, CsvOptions::default()).unwrap();
    assert_eq!(kinds, vec![Kind::F64; columns]);
    assert_eq!(
        batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
        1000
    );
    let late = format!("a\n{}0.5\n", "1\n".repeat(600_000));
    let error = csv(&late, CsvOptions::default()).unwrap_err();
    assert!(
        matches!(&error, TableError::Value { line: 600_002, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("Csv(types="), "{error}");
}

#[test]
fn whole_numbers_beyond_64_bits_stay_what_they_are() {
    let kinds = |text: &str| csv(text, CsvOptions::default()).unwrap().1;
    assert_eq!(
        kinds("a,b\n12345678901234567890,9223372036854775807\n"),
        [Kind::Text, Kind::I64]
    );
    assert_eq!(kinds("a\n1.5\n-12345678901234567890\n"), [Kind::Text]);
    assert_eq!(kinds("a\n1e30\n2\n"), [Kind::F64]);
}

#[test]
fn a_byte_order_mark_is_none_but_at_the_first_byte() {
    let text = |file: &str, header: bool| -> Vec<String> {
        let options = CsvOptions {
            header,
            ..CsvOptions::default()
        };
        let (_, _, batches) = csv(file, options).unwrap();
        let column = batches[0].column(0).as_string::<i32>();
        column
            .iter()
            .map(|text| text.unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(text("\u{feff}a\nx\n\u{feff}y\n", true), ["x", "\u{feff}y"]);
    assert_eq!(text("\u{feff}x\n\u{feff}y\n", false), ["x", "\u{feff}y"]);
    assert_eq!(text("\n\u{feff}x\n", false), ["\u{feff}x"]);
    assert_eq!(
        csv("\u{feff}\"a\"\n1\n", CsvOptions::default()).unwrap().0,
        ["a"]
    );
    // At the start of a block, too.
    let mut file = "a\n".to_owned();
    for _ in 0..(1 << 16) + 10 {
        file += "\u{feff}x\n";
    }
    let table = Arc::new(Table::csv(Arc::new(file.into_bytes()), CsvOptions::default()).unwrap());
    table.scan().unwrap();
    let scan = Scan {
        blocks: Some(1..2),
        ..Scan::default()
    };
    let second = table.read(scan).unwrap().next().unwrap().unwrap();
    assert_eq!(second.column(0).as_string::<i32>().value(0), "\u{feff}x");
}

#[test]
fn an_open_quote_is_named_by_the_line_where_it_opens() {
    for (file, opened) in [
        ("a,b\n1,\"x\n2,y\n3,z\n", 2),
        ("a,b\n1,x\n\"2\n\n\",\"y\n3,z", 5),
        ("a,b\n1,x\n2,\"", 3),
    ] {
        let table = Arc::new(Table::csv(
            Arc::new(file.as_bytes().to_vec()),
            CsvOptions::default(),
        ));
        let read = match &*table {
            Err(TableError::Quote { line }) => *line,
            other => panic!("{:?}", other.as_ref().err()),
        };
        assert_eq!(read, opened);
        let mut scanner = aegis_tables::Scanner::new(&CsvOptions::default(), 2).unwrap();
        for byte in file.as_bytes() {
            scanner.feed(&[*byte]).unwrap();
        }
        let Err(TableError::Quote { line }) = scanner.finish() else {
            panic!("{file:?}")
        };
        assert_eq!(line, opened);
    }
    assert!(csv("a,b\n1,\"x\"", CsvOptions::default()).is_ok());
}

#[test]
fn what_is_no_table_of_this_kind_is_named() {
    let error = csv("a;b\n1,5;2\n", CsvOptions::default()).unwrap_err();
    assert!(error.to_string().contains("Csv(delimiter="), "{error}");
    let file = Arc::new(b"a,b\n1,x\n2,\xe9\n".to_vec());
    let table = Arc::new(Table::csv(file, CsvOptions::default()).unwrap());
    let error = table
        .read(Scan::default())
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(&error, TableError::Encoding { line: 3, column } if column == "b"),
        "{error:?}"
    );
}
