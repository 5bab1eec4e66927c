//! The stable code of each error, and how the errors of other crates become ours.

use std::path::Path;

use aegis_folder::Unfit;

use crate::error::VaultError;

impl VaultError {
    /// Stable code, for people who search and programs that match.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAVault { .. } => "AEG-V001",
            Self::NotFound { .. } => "AEG-V002",
            Self::AlreadyExists { .. } => "AEG-V003",
            Self::UnsupportedFormat { .. } => "AEG-V004",
            Self::WrongKeyLength { .. } => "AEG-V005",
            Self::WrongKey { .. } => "AEG-V006",
            Self::ProviderError { .. } => "AEG-V007",
            Self::HeaderTampered { .. } => "AEG-V008",
            Self::ChunkAuthFailed { .. } => "AEG-V009",
            Self::Truncated { .. } => "AEG-V010",
            Self::TrailingData { .. } => "AEG-V011",
            Self::ObjectMissing { .. } => "AEG-V012",
            Self::ObjectNotFound { .. } => "AEG-V013",
            Self::ObjectShredded { .. } => "AEG-V014",
            Self::KeyDestroyed { .. } => "AEG-V015",
            Self::KeystoreCorrupt { .. } => "AEG-V016",
            Self::KeystoreRollback { .. } => "AEG-V017",
            Self::AuditRollback { .. } => "AEG-V018",
            Self::Locked { .. } => "AEG-V019",
            Self::InsufficientAssurance { .. } => "AEG-V020",
            Self::PermitRequired { .. } => "AEG-V021",
            Self::NotRecords { .. } => "AEG-V022",
            #[cfg(feature = "tables")]
            Self::Table { source, .. } | Self::TableFile { source, .. } => source.code(),
            Self::TableMismatch { .. } => "AEG-V067",
            Self::BadRequest { .. } => "AEG-V023",
            Self::MetadataTooLarge { .. } => "AEG-V024",
            Self::ObjectTooLarge { .. } => "AEG-V025",
            Self::BlobAuthFailed { .. } => "AEG-V026",
            Self::NoSpace { .. } => "AEG-V027",
            Self::Io { .. } => "AEG-V028",
            Self::ForkedProcess => "AEG-V029",
            Self::Closed => "AEG-V030",
            Self::Crypto { .. } => "AEG-V031",
            Self::Permit(_) => "AEG-V032",
            Self::Policy(_) => "AEG-V033",
            Self::Audit(_) => "AEG-V034",
            Self::KeystoreStale { .. } => "AEG-V035",
            Self::WrongProvider { .. } => "AEG-V036",
            Self::SubjectNotFound => "AEG-V037",
            Self::VaultDestroyed { .. } => "AEG-V038",
            Self::AboutDamaged { .. } => "AEG-V039",
            Self::SourceChanged => "AEG-V040",
            Self::Interrupted => "AEG-V041",
            Self::IntentForged { .. } => "AEG-V070",
            Self::Unfit { .. } => "AEG-V073",
            Self::ReadOnly { .. } => "AEG-V074",
            Self::NameTaken { .. } => "AEG-V075",
            Self::NameAmbiguous { .. } => "AEG-V076",
            Self::KeystoreFull { .. } => "AEG-V080",
            Self::HeadForked { .. } => "AEG-V081",
            Self::Governed => "AEG-V082",
        }
    }

    /// For `map_err`: names the operation and the file, not the folders above it.
    pub(crate) fn io(
        op: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref();
        let path = path.file_name().map_or_else(
            || path.display().to_string(),
            |n| n.to_string_lossy().escape_debug().to_string(),
        );
        move |source| match (Unfit::of(&source), source.kind()) {
            (Some(Unfit(what)), _) => Self::Unfit { path, what },
            (None, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
                Self::NoSpace { op }
            }
            _ => Self::Io { op, path, source },
        }
    }

    /// For `map_err` where memory for `bytes` bytes is mapped.
    pub(crate) fn memory(bytes: usize) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            op: "map memory of",
            path: format!("{bytes} bytes"),
            source,
        }
    }

    /// For `map_err` over the opaque error of aws-lc.
    pub(crate) fn crypto(op: &'static str) -> impl FnOnce(aws_lc_rs::error::Unspecified) -> Self {
        move |_| Self::Crypto { op }
    }
}
