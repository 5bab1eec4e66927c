//! Arrow arrays from fields.

use arrow_array::ArrayRef;
use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Date32Builder, Float32Builder, Float64Builder, Int32Builder,
    Int64Builder, StringBuilder,
};

use super::kind::{self, Kind};

/// The array of one column under way.
pub enum Builder {
    Bool(BooleanBuilder),
    I32(Int32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
    Date(Date32Builder),
    Text(StringBuilder),
}

impl Builder {
    pub fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::I32 => Self::I32(Int32Builder::with_capacity(rows)),
            Kind::I64 => Self::I64(Int64Builder::with_capacity(rows)),
            Kind::F32 => Self::F32(Float32Builder::with_capacity(rows)),
            Kind::F64 => Self::F64(Float64Builder::with_capacity(rows)),
            Kind::Date => Self::Date(Date32Builder::with_capacity(rows)),
            Kind::Text => Self::Text(StringBuilder::with_capacity(rows, 8 * rows)),
        }
    }

    /// Appends a field, a null for `None`; `None` when the field is not of the type.
    pub fn push(&mut self, field: Option<&[u8]>) -> Option<()> {
        /// `Ok(None)` is a null, an error a field of another type.
        fn parsed<T>(
            field: Option<&[u8]>,
            parse: impl FnOnce(&[u8]) -> Option<T>,
        ) -> Result<Option<T>, ()> {
            field.map(|field| parse(field).ok_or(())).transpose()
        }
        match self {
            Self::Bool(to) => to.append_option(parsed(field, kind::boolean).ok()?),
            Self::I32(to) => to.append_option(parsed(field, kind::number).ok()?),
            Self::I64(to) => to.append_option(parsed(field, kind::number).ok()?),
            Self::F32(to) => to.append_option(parsed(field, kind::number).ok()?),
            Self::F64(to) => to.append_option(parsed(field, kind::number).ok()?),
            Self::Date(to) => to.append_option(parsed(field, kind::date).ok()?),
            Self::Text(to) => match field {
                None => to.append_null(),
                Some(field) => to.append_value(std::str::from_utf8(field).ok()?),
            },
        }
        Some(())
    }

    fn inner(&mut self) -> &mut dyn ArrayBuilder {
        match self {
            Self::Bool(b) => b,
            Self::I32(b) => b,
            Self::I64(b) => b,
            Self::F32(b) => b,
            Self::F64(b) => b,
            Self::Date(b) => b,
            Self::Text(b) => b,
        }
    }

    pub fn finish(mut self) -> ArrayRef {
        self.inner().finish()
    }
}
