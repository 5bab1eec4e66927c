//! Bytes of rows in Arrow arrays: what bounds a batch.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Schema};

/// Bytes of the rows `from..to` of an array: values, offsets and the bits of missing values. What a dictionary or a view
/// points to is counted as if each row had it to itself.
pub fn bytes(array: &ArrayRef, from: usize, to: usize) -> u64 {
    let rows = to.saturating_sub(from) as u64;
    let missing = if array.nulls().is_some() {
        rows.div_ceil(8)
    } else {
        0
    };
    missing + values(array, from, to, rows)
}

fn values(array: &ArrayRef, from: usize, to: usize, rows: u64) -> u64 {
    let between = |start: i64, end: i64| u64::try_from(end - start).unwrap_or(0);
    match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 => offsets(array.as_string::<i32>().value_offsets(), from, to),
        DataType::LargeUtf8 => offsets(array.as_string::<i64>().value_offsets(), from, to),
        DataType::Binary => offsets(array.as_binary::<i32>().value_offsets(), from, to),
        DataType::LargeBinary => offsets(array.as_binary::<i64>().value_offsets(), from, to),
        DataType::Utf8View => views(array.as_string_view().views(), from, to),
        DataType::BinaryView => views(array.as_binary_view().views(), from, to),
        DataType::FixedSizeBinary(width) => rows * u64::try_from(*width).unwrap_or(0),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (start, end) = (list.value_offsets()[from], list.value_offsets()[to]);
            let within = (start.cast_unsigned() as usize, end.cast_unsigned() as usize);
            4 * rows + bytes(list.values(), within.0, within.1)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let place = |at: usize| usize::try_from(list.value_offsets()[at]).unwrap_or(0);
            8 * rows + bytes(list.values(), place(from), place(to))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (start, end) = (map.value_offsets()[from], map.value_offsets()[to]);
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            let within = (start.cast_unsigned() as usize, end.cast_unsigned() as usize);
            4 * rows + bytes(&entries, within.0, within.1)
        }
        DataType::FixedSizeList(_, n) => {
            let n = usize::try_from(*n).unwrap_or(0);
            bytes(array.as_fixed_size_list().values(), from * n, to * n)
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.map(|column| bytes(column, from, to)).sum()
        }
        DataType::Dictionary(key, _) => rows * key.primitive_width().unwrap_or(8) as u64,
        other => match other.primitive_width() {
            Some(width) => rows * width as u64,
            // A type that no reader of this crate makes: its share of all the memory.
            None => between(
                0,
                i64::try_from(array.get_buffer_memory_size()).unwrap_or(0),
            ),
        },
    }
}

fn offsets<T: Copy + Into<i64>>(offsets: &[T], from: usize, to: usize) -> u64 {
    let (start, end): (i64, i64) = (offsets[from].into(), offsets[to].into());
    let own = (to - from) * size_of::<T>();
    own as u64 + u64::try_from(end - start).unwrap_or(0)
}

fn views(views: &[u128], from: usize, to: usize) -> u64 {
    // The low 32 bits are the length; up to 12 bytes lie in the view itself (Arrow, "Variable-size Binary View Layout").
    let length = |view: &u128| match *view & 0xffff_ffff {
        0..=12 => 16,
        length => 16 + u64::try_from(length).unwrap_or(0),
    };
    views[from..to].iter().map(length).sum()
}

/// The greatest number of rows from `from` on, at most `most`, that have no more than `room` bytes together.
pub fn fitting(arrays: &[ArrayRef], from: usize, most: usize, room: u64) -> usize {
    let weigh = |rows: usize| -> u64 {
        let columns = arrays.iter();
        columns.map(|array| bytes(array, from, from + rows)).sum()
    };
    if weigh(most) <= room {
        return most;
    }
    let (mut fits, mut not) = (0, most);
    while not - fits > 1 {
        let half = fits.midpoint(not);
        if weigh(half) <= room {
            fits = half;
        } else {
            not = half;
        }
    }
    fits
}

/// Bits of a row when every row has the same.
pub fn width(kind: &DataType) -> Option<u64> {
    match kind {
        DataType::Null => Some(0),
        DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(n) => Some(8 * u64::try_from(*n).ok()?),
        DataType::Dictionary(key, _) => width(key),
        DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).sum(),
        DataType::FixedSizeList(item, n) => {
            width(item.data_type())?.checked_mul(u64::try_from(*n).ok()?)
        }
        other => Some(8 * other.primitive_width()? as u64),
    }
}

/// Whether arrays of the schema can be put end to end in small copies: dictionaries would have to be merged.
pub fn joins(schema: &Schema) -> bool {
    fn plain(kind: &DataType) -> bool {
        match kind {
            DataType::Dictionary(..) | DataType::RunEndEncoded(..) => false,
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => plain(item.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| plain(field.data_type())),
            _ => true,
        }
    }
    schema.fields().iter().all(|field| plain(field.data_type()))
}
