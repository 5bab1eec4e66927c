//! What a check finds, and how bad it is.

use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use crate::error::Result;
use crate::format::paths::Paths;
use crate::system::files::Place;

/// How bad a finding is, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong with the vault, and somebody should know.
    Notice,
    /// Left over, or laxer than it should be; nothing is lost.
    Note,
    /// Something stored cannot be read as it is.
    Damage,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Path within the vault.
    pub place: String,
    /// The object it concerns.
    pub object: Option<Uuid>,
    /// How bad.
    pub severity: Severity,
    /// What was found.
    pub damage: String,
    /// What a repair does, or what the owner must do.
    pub action: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

impl Finding {
    /// One that nobody has repaired.
    pub(crate) fn at(
        severity: Severity,
        place: &Place,
        object: Option<Uuid>,
        damage: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        let place = match place.below() {
            root if root == Path::new(".") => String::new(),
            below => below.display().to_string(),
        };
        Self {
            place,
            object,
            severity,
            damage: damage.into(),
            action: action.into(),
            repaired: false,
        }
    }
}

/// What [`Vault::fsck`] found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FsckReport {
    /// Every finding, in the order of the checks.
    pub findings: Vec<Finding>,
    /// Live objects whose header and size were checked.
    pub objects: u64,
    /// Whether the keystore could be opened; without it the objects were not looked at.
    pub opened: bool,
}

impl FsckReport {
    /// Nothing is left that is wrong.
    pub fn clean(&self) -> bool {
        let settled = |finding: &Finding| finding.repaired || finding.severity == Severity::Notice;
        self.opened && self.findings.iter().all(settled)
    }
}

/// What a check may change.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsckOptions {
    /// Repair what can be repaired without losing anything.
    pub repair: bool,
    /// Go on from a keystore that is older than the audit log says: objects stored since are lost.
    pub accept_older_keystore: bool,
}

/// A check under way, and what it has found.
pub(crate) struct Check {
    pub paths: Paths,
    pub repair: bool,
    pub report: FsckReport,
}

impl Check {
    /// Records a finding; with `--repair`, mends it first.
    pub fn find(
        &mut self,
        mut finding: Finding,
        mend: impl FnOnce(&Paths) -> Result<()>,
    ) -> Result<()> {
        if self.repair {
            mend(&self.paths)?;
            finding.repaired = true;
        }
        self.tell(finding);
        Ok(())
    }

    /// Records a finding as it is: only its owner can mend it, or it was mended.
    pub fn tell(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }
}
