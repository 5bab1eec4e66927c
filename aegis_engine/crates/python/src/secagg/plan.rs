//! What a run sums.

use aegis_secagg::{Encoding, Plan};
use pyo3::prelude::*;

use crate::convert::floats;
use crate::error::Result;

pub fn plan(
    dim: u64,
    metrics: Vec<String>,
    clip: f64,
    value_bits: u8,
    weight_max: u64,
    metric_max: u64,
    max_clients: u32,
) -> Plan {
    Plan {
        dim,
        metrics,
        encoding: Encoding {
            clip,
            value_bits,
            weight_max,
            metric_max,
        },
        n_max: max_clients,
    }
}

/// The plain integers of one contribution, for comparisons with an unmasked sum.
#[pyfunction]
#[pyo3(signature = (update, weight, metrics, *, names, clip, value_bits, weight_max, metric_max, max_clients))]
pub fn encode_update(
    py: Python<'_>,
    update: &Bound<'_, PyAny>,
    weight: u64,
    metrics: Vec<i64>,
    names: Vec<String>,
    clip: f64,
    value_bits: u8,
    weight_max: u64,
    metric_max: u64,
    max_clients: u32,
) -> Result<Vec<i64>> {
    let values = floats(py, update)?;
    let plan = plan(
        values.len() as u64,
        names,
        clip,
        value_bits,
        weight_max,
        metric_max,
        max_clients,
    );
    Ok(aegis_secagg::encode(&values, weight, &metrics, &plan)?)
}
