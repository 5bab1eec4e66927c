//! What the keystore and the audit log say of each other. Each remembers how far the other was, so that putting back one of
//! them is found; what is remembered is not verified again from its start.

use aegis_audit::{Head, Log, Mark, Record};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::paths::Paths;
use crate::secret::Secret;
use crate::vault::proof::{self, Said};
use crate::vault::state::State;

/// The name under which a vault's audit log is made.
pub(crate) fn origin(vault: Uuid) -> String {
    format!("aegis/audit/{vault}")
}

/// The log behind what the (authenticated) keystore remembers, and the newest generation of the keystore that it knows of:
/// each is on record once it is durable.
pub(crate) fn open(
    paths: &Paths,
    vault: Uuid,
    state: &State,
    read_only: bool,
) -> Result<(Log, u64)> {
    let body = &state.body;
    // One that the keystore remembers is not made anew where it is lost.
    if !paths.audit().is_dir() && body.audit.head.seq > 0 {
        return Err(missing());
    }
    let (folder, origin) = (paths.audit(), origin(vault));
    let log = if read_only {
        Log::open_read_only_from(&folder, &origin, &body.audit)
    } else {
        Log::open_from(&folder, &origin, &body.audit)
    }
    .map_err(rolled_back)?;
    let mut newest = Newest::new(state.generation, state.is_first_version());
    for record in behind(paths, &body.audit)? {
        newest.hear(&record?, &body.node)?;
    }
    Ok((log, newest.generation))
}

pub(crate) fn missing() -> VaultError {
    VaultError::AuditRollback {
        reason: "the audit folder is missing".to_owned(),
    }
}

/// The log's own word for it has no remedy of the vault.
fn rolled_back(error: aegis_audit::AuditError) -> VaultError {
    match error {
        aegis_audit::AuditError::Rollback {
            expected, found, ..
        } => VaultError::AuditRollback {
            reason: if found.seq < expected.seq {
                format!(
                    "{} records are left, {} were there",
                    found.seq, expected.seq
                )
            } else {
                format!("record {} is another one", expected.seq - 1)
            },
        },
        other => other.into(),
    }
}

/// The records behind the place that is remembered, or all of them.
fn behind(paths: &Paths, mark: &Mark) -> Result<aegis_audit::Records> {
    Ok(match mark.cursor() {
        Some(cursor) => aegis_audit::read_from(&paths.audit(), cursor)?,
        None => aegis_audit::read(&paths.audit())?,
    })
}

/// The newest generation on record.
pub(crate) struct Newest {
    pub generation: u64,
    /// Records that claim a generation and prove nothing: somebody else's, or of a version that gave no proofs.
    pub unproven: u64,
    /// Whether a record without a proof may be the vault's own.
    lenient: bool,
    /// What it cannot have passed: one more a record.
    bound: u64,
}

impl Newest {
    pub fn new(generation: u64, lenient: bool) -> Self {
        Self {
            generation,
            unproven: 0,
            lenient,
            bound: generation,
        }
    }

    /// A generation counts when its record proves that the vault wrote it. Without a proof it counts, in a vault that has
    /// not written any yet, as far as there can have been commits: so a forger may raise an alarm, which the owner can
    /// overrule, and never leads the counter away.
    pub fn hear(&mut self, record: &Record, node: &Secret<32>) -> Result<()> {
        match proof::generation(&record.body, node)? {
            Said::Nothing => {}
            Said::Proven((generation, _)) => {
                self.bound += 1;
                self.generation = self.generation.max(generation);
            }
            Said::Unproven((generation, _)) => {
                self.bound += 1;
                self.unproven += 1;
                if self.lenient && generation <= self.bound {
                    self.generation = self.generation.max(generation);
                }
            }
        }
        Ok(())
    }
}

/// Gives every record to `each`, in one pass. Some reason when the log is none of `heads` and does not go on from it.
pub(crate) fn verify_chain(
    paths: &Paths,
    log: &Log,
    heads: &[Head],
    mut each: impl FnMut(&Record) -> Result<()>,
) -> Result<Option<String>> {
    let left = log.head().seq;
    let short = heads.iter().find(|head| head.seq > left);
    let mut lost = short.map(|head| format!("{left} records are left, {} were there", head.seq));
    for record in aegis_audit::read(&paths.audit())? {
        let record = record?;
        let other = |head: &Head| head.seq == record.seq + 1 && head.hash != record.hash;
        if lost.is_none() && heads.iter().any(other) {
            lost = Some(format!("record {} is another one", record.seq));
        }
        each(&record)?;
    }
    Ok(lost)
}

/// Records about the keystore or the policy that the vault did not write. What lies before the first proven one is of a version
/// that gave no proofs.
pub(crate) fn forged(paths: &Paths, node: &Secret<32>) -> Result<u64> {
    let (mut forged, mut proofs) = (0, false);
    for record in aegis_audit::read(&paths.audit())? {
        let body = record?.body;
        match (proof::generation(&body, node)?, proof::bundle(&body, node)?) {
            (Said::Proven(_), _) | (_, Said::Proven(_)) => proofs = true,
            (Said::Unproven(_), _) | (_, Said::Unproven(_)) => forged += u64::from(proofs),
            _ => {}
        }
    }
    Ok(forged)
}
