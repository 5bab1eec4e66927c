//! Policies as texts and as files may be put here; nothing here asks them anything.

mod keep;
mod text;

pub use keep::KeepError;
pub use text::{Bundle, DEFAULT_DENY};
