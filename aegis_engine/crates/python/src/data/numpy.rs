//! Columns of numbers out of Arrow arrays, for numpy.

use aegis_memory::Pages;
use aegis_tables::TableError;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};

/// The numpy type of a column and its values a row; `None` when its values are no numbers.
pub fn dtype(kind: &DataType) -> Option<(String, usize)> {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    let name = match kind {
        DataType::Boolean => "|b1".to_owned(),
        DataType::Int8 => "|i1".to_owned(),
        DataType::UInt8 => "|u1".to_owned(),
        DataType::Int16 => "<i2".to_owned(),
        DataType::UInt16 => "<u2".to_owned(),
        DataType::Int32 => "<i4".to_owned(),
        DataType::UInt32 => "<u4".to_owned(),
        DataType::Int64 => "<i8".to_owned(),
        DataType::UInt64 => "<u8".to_owned(),
        DataType::Float16 => "<f2".to_owned(),
        DataType::Float32 => "<f4".to_owned(),
        DataType::Float64 => "<f8".to_owned(),
        DataType::Date32 => "<M8[D]".to_owned(),
        DataType::Timestamp(u, _) => format!("<M8[{}]", unit(u)),
        DataType::Duration(u) => format!("<m8[{}]", unit(u)),
        DataType::FixedSizeList(item, n) => {
            let (name, inner) = dtype(item.data_type())?;
            return Some((name, inner.checked_mul(usize::try_from(*n).ok()?)?));
        }
        _ => return None,
    };
    Some((name, 1))
}

/// Bytes of one value as numpy has it.
fn width(kind: &DataType) -> usize {
    match kind {
        DataType::Boolean => 1,
        DataType::Date32 => 8,
        DataType::FixedSizeList(item, _) => width(item.data_type()),
        other => other.primitive_width().unwrap_or(0),
    }
}

type Result<T> = aegis_tables::Result<T>;

/// One column being put together from batches.
pub struct PartialColumn {
    name: String,
    kind: DataType,
    pages: Pages,
    at: usize,
}

impl PartialColumn {
    /// For `rows` rows.
    pub fn new(name: &str, kind: &DataType, rows: u64) -> Result<Self> {
        let values = dtype(kind).map_or(0, |(_, values)| values);
        let bytes = usize::try_from(rows)
            .ok()
            .and_then(|rows| rows.checked_mul(values)?.checked_mul(width(kind)));
        let pages = bytes.and_then(|bytes| Pages::new(bytes).ok());
        Ok(Self {
            name: name.to_owned(),
            kind: kind.clone(),
            pages: pages.ok_or(TableError::Memory {
                bytes: bytes.unwrap_or(usize::MAX),
            })?,
            at: 0,
        })
    }

    fn wrong(&self, what: &str) -> TableError {
        TableError::unreadable("a table", &format!("column {:?} {what}", self.name))
    }

    /// Appends an array of the column.
    pub fn push(&mut self, array: &ArrayRef) -> Result<()> {
        if array.data_type() != &self.kind {
            return Err(self.wrong("changed its type between batches"));
        }
        self.append(array)
    }

    #[allow(clippy::redundant_closure_for_method_calls)] // the type of `v` has no name here
    fn append(&mut self, array: &ArrayRef) -> Result<()> {
        let nulls = array.null_count() > 0;
        match array.data_type() {
            DataType::FixedSizeList(_, n) if !nulls => {
                let list = array.as_fixed_size_list();
                let n = usize::try_from(*n).unwrap_or(0);
                self.append(&list.values().slice(0, n * list.len()))
            }
            DataType::Boolean if !nulls => {
                let values = array.as_boolean().values();
                self.write(values.iter().map(|bit| [u8::from(bit)]))
            }
            // NaT in numpy is the least i64.
            DataType::Date32 => {
                let values = array.as_primitive::<Date32Type>().iter();
                self.write(values.map(|day| day.map_or(i64::MIN, i64::from).to_le_bytes()))
            }
            DataType::Timestamp(..) | DataType::Duration(_) if nulls => {
                let data = array.to_data();
                let (words, _) = data.buffers()[0].as_slice().as_chunks::<8>();
                let words = &words[data.offset()..data.offset() + data.len()];
                let nat = i64::MIN.to_le_bytes();
                self.write(
                    words.iter().enumerate().map(
                        |(at, word)| {
                            if array.is_null(at) { nat } else { *word }
                        },
                    ),
                )
            }
            DataType::Float16 if nulls => {
                let nan = 0x7e00_u16.to_le_bytes();
                let values = array.as_primitive::<Float16Type>().iter();
                self.write(values.map(|v| v.map_or(nan, |v| v.to_le_bytes())))
            }
            DataType::Float32 if nulls => {
                let values = array.as_primitive::<Float32Type>().iter();
                self.write(values.map(|v| v.unwrap_or(f32::NAN).to_le_bytes()))
            }
            DataType::Float64 if nulls => {
                let values = array.as_primitive::<Float64Type>().iter();
                self.write(values.map(|v| v.unwrap_or(f64::NAN).to_le_bytes()))
            }
            _ if nulls => Err(TableError::Missing {
                column: self.name.clone(),
            }),
            kind => {
                let width = width(kind);
                let data = array.to_data();
                let bytes = data.buffers()[0].as_slice();
                let bytes = &bytes[data.offset() * width..(data.offset() + data.len()) * width];
                let out = self.room(bytes.len())?;
                out.copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn room(&mut self, bytes: usize) -> Result<&mut [u8]> {
        let from = self.at;
        self.at += bytes;
        let to = self.at;
        if to > self.pages.len() {
            return Err(self.wrong("has more rows than the table"));
        }
        Ok(&mut self.pages[from..to])
    }

    fn write<const N: usize>(
        &mut self,
        values: impl ExactSizeIterator<Item = [u8; N]>,
    ) -> Result<()> {
        let out = self.room(values.len() * N)?;
        for (out, value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
            *out = value;
        }
        Ok(())
    }

    /// The pages, the numpy type and the values a row.
    pub fn finish(self) -> Result<(Pages, String, usize)> {
        let (name, values) = dtype(&self.kind).unwrap_or_default();
        if self.at != self.pages.len() {
            return Err(self.wrong("has fewer rows than the table"));
        }
        Ok((self.pages, name, values))
    }
}
