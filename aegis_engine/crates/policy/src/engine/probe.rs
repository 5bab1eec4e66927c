//! Whether a bundle knows the engine's words.

use crate::bundle::Bundle;
use crate::cedar::{Asker, Measured, use_context};
use crate::consent::Flags;
use crate::error::PolicyError;
use crate::permit::Action;
use crate::rows::{Class, DatasetFacts};

/// Asks each question once, with made-up facts, only to see that the schema knows its words.
pub(super) fn probe(bundle: &Bundle) -> Result<(), PolicyError> {
    let facts = DatasetFacts::default();
    let asker = Asker::new(bundle, "probe", "", "", "probe", &facts)?;
    let context = use_context("", &[], 0, 0)?;
    for action in [
        Action::Read,
        Action::Train,
        Action::Evaluate,
        Action::Export,
    ] {
        asker.dataset(action.name(), &context)?;
        for delete_after in [None, Some(0)] {
            let class = Class {
                basis: "consent".into(),
                delete_after,
                special: false,
            };
            asker.rows(action.name(), &context, &class, Flags::default())?;
        }
    }
    for action in ["release_update", "release_counts"] {
        asker.update(action, "probe", &Measured::default().context()?)?;
    }
    Ok(())
}
