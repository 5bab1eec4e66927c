//! Dates of the deprecated type INT96, which reach further than nanoseconds in 64 bits do (1677 to 2262).
//!
//! Spark, Impala and Hive write microseconds: what their files hold is read to the microsecond, which loses nothing. A
//! file that was written from Arrow's nanoseconds keeps them; a date out of their range is an error there, found by
//! decoding the column to microseconds, too.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::basic::Type;
use parquet::schema::types::SchemaDescriptor;

use crate::error::{Result, TableError};

/// The schema with microseconds for every INT96; none when there is no such column.
pub fn to_microseconds(schema: &Schema, parquet: &SchemaDescriptor) -> Option<Schema> {
    let mut leaf = 0;
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| self::field(field, parquet, &mut leaf))
        .collect();
    let changed = fields != *schema.fields();
    changed.then(|| Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn field(from: &FieldRef, parquet: &SchemaDescriptor, leaf: &mut usize) -> FieldRef {
    let kind = kind(from.data_type(), parquet, leaf);
    if kind == *from.data_type() {
        return Arc::clone(from);
    }
    let field = Field::new(from.name(), kind, from.is_nullable());
    Arc::new(field.with_metadata(from.metadata().clone()))
}

/// Leaves of Arrow's type come in the order of Parquet's.
fn kind(from: &DataType, parquet: &SchemaDescriptor, leaf: &mut usize) -> DataType {
    let mut item = |item: &FieldRef| field(item, parquet, leaf);
    match from {
        DataType::List(inner) => DataType::List(item(inner)),
        DataType::ListView(inner) => DataType::ListView(item(inner)),
        DataType::LargeList(inner) => DataType::LargeList(item(inner)),
        DataType::LargeListView(inner) => DataType::LargeListView(item(inner)),
        DataType::FixedSizeList(inner, n) => DataType::FixedSizeList(item(inner), *n),
        DataType::Map(inner, sorted) => DataType::Map(item(inner), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect()),
        other => {
            let at = *leaf;
            *leaf += 1;
            let int96 =
                at < parquet.num_columns() && parquet.column(at).physical_type() == Type::INT96;
            match other {
                DataType::Timestamp(TimeUnit::Nanosecond, zone) if int96 => {
                    DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
                }
                other => other.clone(),
            }
        }
    }
}

/// Refuses nanoseconds that are not the dates in the file. Both batches hold the same rows of the same columns.
pub fn check(nanos: &RecordBatch, micros: &RecordBatch) -> Result<()> {
    let schema = nanos.schema();
    for ((near, far), field) in nanos
        .columns()
        .iter()
        .zip(micros.columns())
        .zip(schema.fields())
    {
        if !same(near, far) {
            return Err(TableError::Range {
                column: field.name().clone(),
            });
        }
    }
    Ok(())
}

fn same(near: &ArrayRef, far: &ArrayRef) -> bool {
    match (near.data_type(), far.data_type()) {
        (
            DataType::Timestamp(TimeUnit::Nanosecond, _),
            DataType::Timestamp(TimeUnit::Microsecond, _),
        ) => {
            let near = near.as_primitive::<TimestampNanosecondType>();
            let far = far.as_primitive::<TimestampMicrosecondType>();
            let pairs = near.iter().zip(far.iter());
            near.len() == far.len()
                && pairs
                    .into_iter()
                    .all(|(near, far)| near.map(|near| near.div_euclid(1000)) == far)
        }
        _ => match (inner(near), inner(far)) {
            (near, far) if near.len() == far.len() => {
                near.iter().zip(&far).all(|(near, far)| same(near, far))
            }
            _ => false,
        },
    }
}

fn inner(array: &ArrayRef) -> Vec<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => vec![Arc::clone(array.as_list::<i32>().values())],
        DataType::LargeList(_) => vec![Arc::clone(array.as_list::<i64>().values())],
        DataType::FixedSizeList(..) => vec![Arc::clone(array.as_fixed_size_list().values())],
        DataType::Map(..) => array.as_map().entries().columns().to_vec(),
        DataType::Struct(_) => array.as_struct().columns().to_vec(),
        _ => Vec::new(),
    }
}
