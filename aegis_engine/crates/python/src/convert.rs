//! Between Python's values and the engine's.

use aegis_policy::Action;
use aegis_vault::Level;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use serde_json::Value;
use uuid::Uuid;

/// A flat view of the bytes of any C-contiguous buffer (bytes, bytearray, memoryview, numpy array); None when empty,
/// since Python casts no empty view.
pub fn view(value: &Bound<'_, PyAny>) -> PyResult<Option<PyBuffer<u8>>> {
    let view = PyMemoryView::from(value)?;
    if view.getattr("nbytes")?.extract::<usize>()? == 0 {
        return Ok(None);
    }
    PyBuffer::<u8>::get(&view.call_method1("cast", ("B",))?).map(Some)
}

/// Copies a buffer's bytes.
pub fn bytes(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    view(value)?.map_or(Ok(Vec::new()), |buffer| buffer.to_vec(py))
}

/// A buffer of little-endian float32: of floats (copied once) or of their bytes.
pub fn floats(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    if let Ok(buffer) = PyBuffer::<f32>::get(value)
        && buffer.is_c_contiguous()
    {
        return buffer.to_vec(py);
    }
    let raw = bytes(py, value)?;
    let (words, rest) = raw.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err(
            "the buffer's length is not a multiple of 4 bytes (float32)",
        ));
    }
    Ok(words.iter().map(|w| f32::from_le_bytes(*w)).collect())
}

pub fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Copies `data` into a writable buffer of exactly that length.
pub fn fill(py: Python<'_>, target: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<()> {
    match view(target)? {
        Some(buffer) if buffer.readonly() => Err(PyBufferError::new_err("the buffer is read-only")),
        Some(buffer) => buffer.copy_from_slice(py, data),
        None if data.is_empty() => Ok(()),
        None => Err(PyBufferError::new_err("the buffer is empty")),
    }
}

pub fn uuid(text: &str) -> PyResult<Uuid> {
    Uuid::parse_str(text).map_err(|_| {
        PyValueError::new_err(format!(
            "{text:?} is no object id; ids are UUIDs, `aegis vault ls` lists them"
        ))
    })
}

/// JSON to Python objects, by way of Python's own parser.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?
        .call_method1("loads", (value.to_string(),))
}

/// Python objects to JSON.
pub fn to_json(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let text: String = value
        .py()
        .import("json")?
        .call_method1("dumps", (value,))?
        .extract()?;
    serde_json::from_str(&text).map_err(|e| PyValueError::new_err(format!("not JSON: {e}")))
}

/// A digest of 32 bytes.
pub fn digest(raw: &[u8]) -> PyResult<[u8; 32]> {
    raw.try_into()
        .map_err(|_| PyValueError::new_err(format!("a hash has 32 bytes, not {}", raw.len())))
}

pub fn python_uuid(py: Python<'_>, id: Uuid) -> PyResult<Bound<'_, PyAny>> {
    py.import("uuid")?.getattr("UUID")?.call1((id.to_string(),))
}

/// An id as text or `uuid.UUID`.
pub fn object_id(value: &Bound<'_, PyAny>) -> PyResult<Uuid> {
    uuid(&value.str()?.to_string_lossy())
}

pub fn action(name: &str) -> PyResult<Action> {
    Action::parse(name).ok_or_else(|| {
        PyValueError::new_err(format!(
            "{name:?} is no action; take read, train, evaluate or export"
        ))
    })
}

pub fn level(name: Option<&str>) -> PyResult<Option<Level>> {
    let parse = |name: &str| {
        Level::parse(name).ok_or_else(|| {
            PyValueError::new_err(format!(
                "{name:?} is no level; take logical, ratcheted-file, hardware or kms"
            ))
        })
    };
    name.map(parse).transpose()
}

pub fn json<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value)
        .map_err(|e| PyValueError::new_err(format!("not representable: {e}")))?;
    to_python(py, &value)
}

/// `io.UnsupportedOperation`, as the files of the standard library raise it.
/// `io.UnsupportedOperation`, an `OSError` and a `ValueError`: what the standard library's streams raise.
pub fn unsupported(py: Python<'_>, what: &str) -> PyErr {
    match py
        .import("io")
        .and_then(|io| io.getattr("UnsupportedOperation"))
    {
        Ok(kind) => match kind.call1((what,)) {
            Ok(value) => PyErr::from_value(value),
            Err(error) => error,
        },
        Err(error) => error,
    }
}
