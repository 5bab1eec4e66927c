//! What a gate saw: a refusal carries all of them.

/// What one gate saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateResult {
    /// Name of the gate.
    pub name: &'static str,
    /// Whether the update passed.
    pub passed: bool,
    /// What it found.
    pub observed: String,
    /// What it allows.
    pub limit: String,
}
