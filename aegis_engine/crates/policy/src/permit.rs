//! The permit: the only way to plaintext.
//!
//! A [`Permit`] has no public constructor. The compliance engine issues one after a policy decision whose audit
//! record is durable, and [`owner`](crate::owner) issues one for a vault without a policy bundle. The vault's
//! decrypt path takes `&Permit`, and its key unwrapping takes a [`Witness`], which only [`Permit::redeem`] makes:
//! leaving the check out does not compile.

use std::fmt;

use std::path::PathBuf;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

pub use crate::error::PermitError;
use crate::rows::RowSet;

/// What the holder may do with the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read rows without training on them.
    Read,
    /// Train a model on rows.
    Train,
    /// Evaluate a model on rows.
    Evaluate,
    /// Write plaintext out of the vault.
    Export,
}

impl Action {
    /// The name used in policies, audit records and configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Export => "export",
        }
    }

    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Read, Self::Train, Self::Evaluate, Self::Export]
            .into_iter()
            .find(|a| a.name() == name)
    }
}

/// Who decided: the built-in owner policy, or a policy bundle by its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The vault has no bundle; whoever holds the key reads.
    Owner,
    /// The bundle with this hash decided.
    Bundle([u8; 32]),
}

/// Which rows a permit opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole object, byte for byte (owner permits and `export`).
    Whole,
    /// These rows and these columns, in this order.
    Rows {
        /// Row numbers within the dataset.
        rows: RowSet,
        /// Column names, a subset of the dataset's.
        columns: Vec<String>,
    },
}

/// What the issuer fixes; see the fields of [`Permit`]'s accessors.
pub(crate) struct Grant {
    pub vault: Uuid,
    pub object: Uuid,
    pub authority: Authority,
    pub action: Action,
    pub purpose: String,
    pub run: String,
    pub round: u64,
    pub node: String,
    pub app_hash: String,
    /// [`crate::DatasetFacts::hash`] of the facts decided on.
    pub facts: [u8; 32],
    pub scope: Scope,
    pub subjects: u64,
    pub subject_rows_max: u64,
    pub valid_for: Duration,
    pub audit_seq: u64,
    pub ledger_epoch: u64,
    /// The consent log and its length at the decision: a longer (or shorter) file revokes.
    pub watch: Option<(PathBuf, u64)>,
}

/// A decision on record that lets its holder read some rows of one object for one purpose.
///
/// # Guarantees
/// - Made only by the compliance engine, after its audit record is durable.
/// - Checked at every batch: expiry (monotonic and wall clock), consent ledger unchanged, vault, object.
pub struct Permit {
    id: Uuid,
    grant: Grant,
    issued: Instant,
    not_after: SystemTime,
    uses: AtomicU64,
    released: AtomicBool,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("id", &self.id)
            .field("action", &self.grant.action.name())
            .field("purpose", &self.grant.purpose)
            .field("object", &self.grant.object)
            .finish_non_exhaustive()
    }
}

/// Proof that a permit was checked a moment ago. Borrowed from the permit; made only by [`Permit::redeem`].
#[derive(Debug)]
pub struct Witness<'p> {
    permit: &'p Permit,
}

impl Witness<'_> {
    /// The permit behind it.
    pub fn permit(&self) -> &Permit {
        self.permit
    }
}

impl Permit {
    pub(crate) fn issue(id: Uuid, grant: Grant) -> Self {
        let not_after = SystemTime::now() + grant.valid_for;
        Self {
            id,
            grant,
            issued: Instant::now(),
            not_after,
            uses: AtomicU64::new(0),
            released: AtomicBool::new(false),
        }
    }

    /// Checks the permit for one use on `object` of `vault`.
    pub fn redeem(&self, vault: Uuid, object: Uuid) -> Result<Witness<'_>, PermitError> {
        let permit = self.id;
        if self.grant.vault != vault {
            return Err(PermitError::Scope {
                permit,
                what: format!("vault {vault}"),
            });
        }
        if self.grant.object != object {
            return Err(PermitError::Scope {
                permit,
                what: format!("object {object}"),
            });
        }
        self.in_force()?;
        self.uses.fetch_add(1, Ordering::Relaxed);
        Ok(Witness { permit: self })
    }

    /// Whether time and consent still stand as decided.
    pub(crate) fn in_force(&self) -> Result<(), PermitError> {
        let permit = self.id;
        if self.issued.elapsed() > self.grant.valid_for || SystemTime::now() > self.not_after {
            return Err(PermitError::Expired { permit });
        }
        if let Some((path, length)) = &self.grant.watch {
            // A ledger that cannot be seen counts as changed: it is never empty, its header alone is 64 bytes.
            let now = std::fs::metadata(path).map_or(0, |m| m.len());
            if now != *length {
                return Err(PermitError::Revoked { permit });
            }
        }
        Ok(())
    }

    /// Takes the permit's single release; false when it is gone. Two updates with fresh noise under one
    /// reservation would average the noise away.
    pub(crate) fn take_release(&self) -> bool {
        !self.released.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    pub(crate) fn facts(&self) -> [u8; 32] {
        self.grant.facts
    }

    /// Random id, the same as in the audit record.
    pub fn id(&self) -> Uuid {
        self.id
    }
    /// The vault it opens.
    pub fn vault(&self) -> Uuid {
        self.grant.vault
    }
    /// The object it opens.
    pub fn object(&self) -> Uuid {
        self.grant.object
    }
    /// Who decided.
    pub fn authority(&self) -> Authority {
        self.grant.authority
    }
    /// What it allows.
    pub fn action(&self) -> Action {
        self.grant.action
    }
    /// What for.
    pub fn purpose(&self) -> &str {
        &self.grant.purpose
    }
    /// The run it was asked for.
    pub fn run(&self) -> &str {
        &self.grant.run
    }
    /// The round it was asked for.
    pub fn round(&self) -> u64 {
        self.grant.round
    }
    /// The node it was asked for.
    pub fn node(&self) -> &str {
        &self.grant.node
    }
    /// Hash of the code it was asked for.
    pub fn app_hash(&self) -> &str {
        &self.grant.app_hash
    }
    /// Rows and columns.
    pub fn scope(&self) -> &Scope {
        &self.grant.scope
    }
    /// Distinct subjects among the allowed rows.
    pub fn subjects(&self) -> u64 {
        self.grant.subjects
    }
    /// Most allowed rows of one subject: what a person can weigh in a step.
    pub fn rows_per_subject_max(&self) -> u64 {
        self.grant.subject_rows_max
    }
    /// Sequence number of the decision's audit record.
    pub fn audit_seq(&self) -> u64 {
        self.grant.audit_seq
    }
    /// State of the consent ledger the decision used.
    pub fn ledger_epoch(&self) -> u64 {
        self.grant.ledger_epoch
    }
    /// How often it was redeemed.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }
    /// Number of rows it opens; 0 for [`Scope::Whole`].
    pub fn row_count(&self) -> u64 {
        match &self.grant.scope {
            Scope::Whole => 0,
            Scope::Rows { rows, .. } => rows.len(),
        }
    }
}
