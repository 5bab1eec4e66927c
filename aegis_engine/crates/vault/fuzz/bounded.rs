//! What no input of the targets can justify allocating.

#[path = "../../../fuzzing/bounded.rs"]
mod bounded;

fn largest() -> usize {
    aegis_vault::fuzzing::ALLOCATION_MAX
}
