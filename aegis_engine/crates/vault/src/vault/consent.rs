//! The consent ledger as the vault opens it: its key, and the head that the keystore committed.

use aegis_policy::{ConsentLedger, PolicyError, Prove};
use uuid::Uuid;

use crate::error::Result;
use crate::format::layout::Layout;
use crate::kdf;
use crate::secret::Secret;
use crate::vault::proof;
use crate::vault::state::State;

/// The name of the ledger's head in the keystore.
pub(crate) const HEAD: &str = "consent";
const DOMAIN: &str = "aegis/v1/consent";

/// The key of the ledger's records.
pub(crate) fn prove(node: &Secret<32>) -> Result<Prove> {
    let key = proof::key(DOMAIN, node)?;
    Ok(Box::new(move |data| kdf::mac(&key, &[data])))
}

/// The ledger, which must contain what the keystore committed last. The caller holds the lock.
pub(crate) fn open(
    layout: &Layout,
    id: Uuid,
    state: &State,
    read_only: bool,
) -> Result<ConsentLedger> {
    let origin = format!("aegis/consent/{id}");
    let prove = prove(&state.body.node)?;
    let consent = if read_only {
        ConsentLedger::open_read_only(&layout.consent(), &origin, prove)
    } else {
        ConsentLedger::open(&layout.consent(), &origin, prove)
    };
    let consent = consent.map_err(PolicyError::from)?;
    if let Some(head) = state.body.heads.get(HEAD) {
        consent.expect(aegis_audit::Head {
            seq: head.count,
            hash: head.mac,
        });
        consent.refresh().map_err(PolicyError::from)?;
    }
    Ok(consent)
}
