//! How many rows to decode at a time: their arrays have a bound in bytes, whatever the file says about itself.

use arrow_schema::DataType;
use parquet::basic::{ConvertedType, Type};
use parquet::file::metadata::ColumnChunkMetaData;

/// Rows of a step when nothing proves that more of them are small.
const CAREFUL: usize = 512;

/// One column chunk, as far as its size goes.
pub struct Load {
    /// Rows of its group.
    pub rows: u64,
    /// Bytes of its arrays, by the best the footer has.
    pub likely: u64,
    /// Whether they cannot be more; a footer that lies is found when the arrays are there.
    pub sure: bool,
    /// Bytes of a row, where all rows have as many.
    pub each: Option<u64>,
}

/// Bytes of a value in Arrow; none when values differ.
fn width(chunk: &ColumnChunkMetaData) -> Option<u64> {
    let decimal = chunk.column_descr().converted_type() == ConvertedType::DECIMAL;
    match chunk.column_type() {
        Type::INT32 | Type::INT64 if decimal => Some(16),
        Type::BOOLEAN => Some(1),
        Type::INT32 | Type::FLOAT => Some(4),
        Type::INT64 | Type::DOUBLE | Type::INT96 => Some(8),
        // Decimals grow to 16 or 32 bytes.
        Type::FIXED_LEN_BYTE_ARRAY => {
            let length = u64::try_from(chunk.column_descr().type_length()).unwrap_or(0);
            Some(length.max(16))
        }
        Type::BYTE_ARRAY => None,
    }
}

/// What a chunk of `rows` rows comes to. `kind`: of the whole column that it belongs to.
pub fn load(chunk: &ColumnChunkMetaData, rows: u64, kind: &DataType) -> Load {
    let values = u64::try_from(chunk.num_values()).unwrap_or(0).max(rows);
    let sealed = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
    // Offsets of lists and texts, marks of missing values.
    let around = values.saturating_mul(4 + u64::from(chunk.column_descr().max_def_level() > 0));
    let (bytes, sure) = match width(chunk) {
        Some(width) => (values.saturating_mul(width), true),
        None => match chunk.unencoded_byte_array_data_bytes() {
            Some(bytes) => (u64::try_from(bytes).unwrap_or(0), true),
            // Values of a dictionary, and prefixes of a delta encoding, stand in the pages once.
            None => (sealed, false),
        },
    };
    // Such a column has one value a row, and the array's type says how wide it is, whatever the file's is.
    let each = kind
        .primitive_width()
        .map(|width| width as u64 + u64::from(chunk.column_descr().max_def_level() > 0));
    Load {
        rows,
        likely: each.map_or(bytes.saturating_add(around), |each| {
            each.saturating_mul(values)
        }),
        sure: sure || each.is_some(),
        each,
    }
}

/// Rows of a step: `most`, or as many as surely have no more than `room` bytes. `chunks`: for each column the chunks in
/// their order. `spread`: rows of the file that are passed for one that is decoded.
pub fn rows(chunks: &[Vec<Load>], most: usize, room: u64, spread: u64) -> usize {
    let mut step = most;
    while step > CAREFUL {
        let window = (step as u64).saturating_mul(spread.max(1));
        let bound = chunks.iter().try_fold(0_u64, |sum, column| {
            Some(sum.saturating_add(heaviest(column, window)?))
        });
        if bound.is_some_and(|bound| bound <= room) {
            return step;
        }
        step = (step / 2).max(CAREFUL);
    }
    let average: u64 = chunks
        .iter()
        .map(|column| column.iter().map(|c| c.likely / c.rows.max(1)).max())
        .map(Option::unwrap_or_default)
        .sum();
    let fit = usize::try_from(room / average.max(1)).unwrap_or(usize::MAX);
    step.min(fit).max(1)
}

/// Bytes that `window` neighbouring rows of a column can have at most; none when nothing is sure.
fn heaviest(column: &[Load], window: u64) -> Option<u64> {
    if column.iter().any(|chunk| !chunk.sure) {
        return None;
    }
    let (mut worst, mut sum, mut inner, mut last) = (0_u64, 0_u64, 0_u64, 0);
    for (first, chunk) in column.iter().enumerate() {
        // The window starts in the last row of `first`, and goes on while it is not full.
        if last <= first {
            (sum, inner, last) = (chunk.likely, 0, first + 1);
        }
        while last < column.len() && inner + 1 < window {
            sum = sum.saturating_add(column[last].likely);
            inner = inner.saturating_add(column[last].rows);
            last += 1;
        }
        worst = worst.max(sum);
        sum = sum.saturating_sub(chunk.likely);
        inner = inner.saturating_sub(column.get(first + 1).map_or(0, |next| next.rows));
    }
    let widest = column
        .iter()
        .map(|chunk| chunk.each)
        .try_fold(0, |widest, each| Some(each?.max(widest)));
    Some(widest.map_or(worst, |each: u64| worst.min(each.saturating_mul(window))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(likely: &[u64], sure: bool) -> Vec<Vec<Load>> {
        let load = |likely: &u64| Load {
            rows: 1000,
            likely: *likely,
            sure,
            each: None,
        };
        vec![likely.iter().map(load).collect()]
    }

    #[test]
    fn a_step_has_as_many_rows_as_surely_fit() {
        assert_eq!(rows(&column(&[10, 10, 10], true), 65_536, 1000, 1), 65_536);
        // Two neighbours are too much: no window may reach over a whole group and both of its ends.
        assert!(rows(&column(&[600, 600, 600], true), 65_536, 1000, 1) <= CAREFUL);
        assert_eq!(rows(&column(&[0, 900, 0, 900], true), 800, 1000, 1), 800);
        assert!(rows(&column(&[0, 900, 0, 900], true), 8000, 1000, 1) <= 1000);
        assert_eq!(rows(&column(&[10], false), 65_536, 1 << 30, 1), CAREFUL);
        assert_eq!(rows(&column(&[1_000_000], false), 65_536, 10_000, 1), 10);
        assert_eq!(rows(&column(&[u64::MAX], false), 65_536, 10_000, 1), 1);
        assert_eq!(rows(&[], 77, 1000, 1), 77);
    }

    #[test]
    fn rows_of_one_width_are_counted_one_by_one() {
        let mut numbers = column(&[1_000_000], true);
        assert!(rows(&numbers, 65_536, 300_000, 1) <= CAREFUL);
        numbers[0][0].each = Some(4);
        assert_eq!(rows(&numbers, 65_536, 300_000, 1), 65_536);
        assert_eq!(rows(&numbers, 65_536, 200_000, 1), 32_768);
        // One chunk of another width, and all are taken by their chunks again.
        numbers[0].extend(column(&[1_000_000], true).remove(0));
        assert!(rows(&numbers, 65_536, 300_000, 1) <= CAREFUL);
    }

    #[test]
    fn the_heaviest_window_is_found() {
        let loads = |pairs: &[(u64, u64)]| -> Vec<Load> {
            let load = |(rows, likely): &(u64, u64)| Load {
                rows: *rows,
                likely: *likely,
                sure: true,
                each: None,
            };
            pairs.iter().map(load).collect()
        };
        let column = loads(&[(10, 1), (1, 100), (1, 50), (10, 1), (10, 70)]);
        assert_eq!(heaviest(&column, 1), Some(100));
        assert_eq!(heaviest(&column, 2), Some(150));
        assert_eq!(heaviest(&column, 4), Some(152));
        assert_eq!(heaviest(&column, 1000), Some(222));
    }
}
