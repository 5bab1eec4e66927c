//! The footer: read strictly, then put right where writers are known to err.

use std::sync::Arc;

use aegis_memory::Pages;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flatbuffers::InvalidFlatbuffer;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataReader,
};

use super::{damaged, thrift};
use crate::error::{Result, TableError};
use crate::source::Source;

/// `PAR1` in front; length of the footer and `PAR1` behind.
const HEAD: u64 = 4;
const TAIL: usize = 8;
/// A footer larger than this is not read: real ones have kilobytes to a few megabytes.
const FOOTER_MAX: u64 = 256 << 20;
/// Where Arrow's writers put the schema.
const ARROW_SCHEMA: &str = "ARROW:schema";

/// The metadata of a file.
pub fn load(source: &dyn Source) -> Result<ParquetMetaData> {
    let mut footer = bytes(source)?;
    let mut decoded = ParquetMetaDataReader::decode_metadata(&footer);
    if decoded
        .as_ref()
        .is_err_and(|e| e.to_string().contains("utf-8"))
        && thrift::mend(&mut footer).is_some()
    {
        decoded = ParquetMetaDataReader::decode_metadata(&footer);
    }
    let metadata = decoded.map_err(|e| {
        let reason = e.to_string();
        if reason.contains("list element type") {
            return TableError::Unsupported {
                what: "a footer whose lists have other element types than the specification says (as old versions of fastparquet and parquet-mr write them)".to_owned(),
            };
        }
        damaged(&reason)
    })?;
    tidy(metadata)
}

/// Whether the writer left the header of a dictionary out of the sizes of its chunk (PARQUET-816): parquet-mr before 1.2.9.
pub fn cuts_dictionaries(metadata: &ParquetMetaData) -> bool {
    let by = metadata.file_metadata().created_by().unwrap_or_default();
    let Some(rest) = by.strip_prefix("parquet-mr") else {
        return false;
    };
    let version = rest.trim_start().strip_prefix("version ").unwrap_or("0");
    let numbers: Vec<u32> = version
        .split(|c: char| !c.is_ascii_digit())
        .take(3)
        .map(|n| n.parse().unwrap_or(0))
        .collect();
    numbers < vec![1, 2, 9]
}

/// The bytes of the footer.
fn bytes(source: &dyn Source) -> Result<Pages> {
    let room = source
        .len()
        .checked_sub(HEAD + TAIL as u64)
        .ok_or_else(|| damaged(&"it is too short"))?;
    let mut tail = [0; TAIL];
    source
        .read_at(HEAD + room, &mut tail)
        .map_err(TableError::Source)?;
    let (len, magic) = tail.split_at(4);
    match magic {
        b"PAR1" => {}
        b"PARE" => {
            return Err(TableError::Unsupported {
                what: "Parquet's own encryption".to_owned(),
            });
        }
        _ => return Err(damaged(&"it does not end as a Parquet file does")),
    }
    let len = u64::from(u32::from_le_bytes([len[0], len[1], len[2], len[3]]));
    if len > room.min(FOOTER_MAX) {
        return Err(damaged(
            &"its footer is longer than the file, or than 256 MiB",
        ));
    }
    let bytes = usize::try_from(len).unwrap_or(usize::MAX);
    let mut footer = Pages::new(bytes).map_err(|_| TableError::Memory { bytes })?;
    source
        .read_at(HEAD + room - len, &mut footer)
        .map_err(TableError::Source)?;
    Ok(footer)
}

/// Whether the file was written from Arrow's own types, which its footer has then.
pub fn by_arrow(metadata: &ParquetMetaData) -> bool {
    arrow_schema(metadata).is_some()
}

fn arrow_schema(metadata: &ParquetMetaData) -> Option<&str> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    let pair = pairs.iter().find(|pair| pair.key == ARROW_SCHEMA)?;
    pair.value.as_deref()
}

fn tidy(metadata: ParquetMetaData) -> Result<ParquetMetaData> {
    let strange = metadata
        .row_groups()
        .iter()
        .any(|group| group.columns().iter().any(misplaced));
    let schema = arrow_schema(&metadata).and_then(in_utf8);
    let file = metadata.file_metadata();
    // Readers go by the groups; some writers count nothing here.
    let rows = rows(&metadata)?;
    if !strange && schema.is_none() && rows == file.num_rows() {
        return Ok(metadata);
    }
    let file = changed(file, rows, schema.as_deref());
    let mut groups = Vec::with_capacity(metadata.num_row_groups());
    for group in metadata.row_groups() {
        let columns = group.columns().iter().map(replaced);
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let group = group.clone().into_builder().set_column_metadata(columns);
        groups.push(group.build().map_err(|e| damaged(&e))?);
    }
    Ok(ParquetMetaData::new(file, groups))
}

/// Whether a dictionary is said to lie where none can be: in front of the file, or behind the data.
fn misplaced(chunk: &ColumnChunkMetaData) -> bool {
    chunk
        .dictionary_page_offset()
        .is_some_and(|at| at <= 0 || at >= chunk.data_page_offset())
}

/// Such a chunk begins at what is called its first data page, as parquet-cpp reads it (`ComputeColumnChunkRange`).
fn replaced(chunk: &ColumnChunkMetaData) -> Result<ColumnChunkMetaData> {
    if !misplaced(chunk) {
        return Ok(chunk.clone());
    }
    let chunk = chunk
        .clone()
        .into_builder()
        .set_dictionary_page_offset(None);
    chunk.build().map_err(|e| damaged(&e))
}

/// Rows of all groups together.
fn rows(metadata: &ParquetMetaData) -> Result<i64> {
    let groups = metadata.row_groups().iter();
    groups
        .map(parquet::file::metadata::RowGroupMetaData::num_rows)
        .try_fold(0_i64, i64::checked_add)
        .ok_or_else(|| damaged(&"too many rows"))
}

fn changed(file: &FileMetaData, rows: i64, schema: Option<&str>) -> FileMetaData {
    let replace = |pair: &KeyValue| match (pair.key.as_str(), schema) {
        (ARROW_SCHEMA, Some(schema)) => KeyValue::new(pair.key.clone(), schema.to_owned()),
        _ => pair.clone(),
    };
    let pairs = file.key_value_metadata();
    FileMetaData::new(
        file.version(),
        rows,
        file.created_by().map(str::to_owned),
        pairs.map(|pairs| pairs.iter().map(replace).collect()),
        Arc::clone(&file.schema_descr_ptr()),
        file.column_orders().cloned(),
    )
}

/// The schema with `?` for each byte of its texts that is no UTF-8; none when there is nothing to change.
///
/// Arrow's metadata may hold any bytes (petastorm and R put pickles there), and the types do not depend on it.
fn in_utf8(encoded: &str) -> Option<String> {
    let mut bytes = STANDARD.decode(encoded).ok()?;
    // Arrow's encapsulated message: a mark, the length, the message.
    let start = match bytes.get(..4)? {
        [255, 255, 255, 255] => 8,
        _ => 0,
    };
    let mut changed = false;
    // Each turn mends one text: there are no more of them than bytes.
    for _ in 0..bytes.len() {
        let found = arrow_ipc::root_as_message(bytes.get(start..)?);
        let Err(InvalidFlatbuffer::Utf8Error { range, .. }) = found else {
            break;
        };
        thrift::in_utf8(bytes.get_mut(start..)?.get_mut(range)?);
        changed = true;
    }
    changed.then(|| STANDARD.encode(bytes))
}
