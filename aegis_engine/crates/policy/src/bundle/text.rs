//! A policy bundle: one Cedar schema and the policies that were validated against it.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::Path;

use aegis_folder::Place;
use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};

use crate::digest::{hex, sha256};
use crate::error::PolicyError;

/// Id of a refusal that no policy decided: Cedar denies what nothing permits.
pub const DEFAULT_DENY: &str = "core.default_deny";

/// A kept file that is longer is not one of a bundle.
const KEPT_MAX: u64 = 16 << 20;
const CORE_SCHEMA: &str = include_str!("../../policies/core/schema.cedarschema");
const CORE: [(&str, &str); 2] = [
    ("core.cedar", include_str!("../../policies/core/core.cedar")),
    (
        "gates.cedar",
        include_str!("../../policies/core/gates.cedar"),
    ),
];

/// Policies and schema, parsed and strictly validated. Immutable, so its hash stays true.
#[derive(Clone)]
pub struct Bundle {
    name: String,
    version: String,
    schema_text: String,
    policies_text: String,
    hash: [u8; 32],
    schema_hash: [u8; 32],
    pub(crate) schema: Schema,
    pub(crate) set: PolicySet,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Bundle({} {}, {})",
            self.name,
            self.version,
            hex(&self.hash)
        )
    }
}

impl Bundle {
    /// The policies that ship with the engine.
    pub fn core() -> Self {
        // The files are compiled in and a test loads them: this cannot fail in a build that passed its tests.
        let mut core = Self::parse("core", CORE_SCHEMA, &CORE).expect("the core bundle is valid");
        env!("CARGO_PKG_VERSION").clone_into(&mut core.version);
        core
    }

    /// Reads `schema.cedarschema` and all `*.cedar` files of a folder, in the order of their names.
    pub fn load(dir: &Path) -> Result<Self, PolicyError> {
        let name = dir
            .file_name()
            .map_or_else(|| "bundle".into(), |n| n.to_string_lossy().into_owned());
        let broken = |path: &Path, source: &dyn fmt::Display| PolicyError::InvalidBundle {
            bundle: name.clone(),
            reason: format!("cannot read {}: {source}", path.display()),
        };
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| broken(path, &e));
        let schema = read(&dir.join("schema.cedarschema"))?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|e| broken(dir, &e))? {
            let path = entry.map_err(|e| broken(dir, &e))?.path();
            if path.extension().is_some_and(|e| e == "cedar") {
                files.push(path);
            }
        }
        files.sort();
        let mut texts = Vec::new();
        for path in &files {
            texts.push((
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                read(path)?,
            ));
        }
        let texts: Vec<(&str, &str)> = texts
            .iter()
            .map(|(n, t)| (n.as_str(), t.as_str()))
            .collect();
        Self::parse(&name, &schema, &texts)
    }

    /// As [`load`](Self::load), from a folder that is hostile until proved, such as a vault's: plain files only.
    pub fn load_kept(dir: &Place) -> Result<Self, PolicyError> {
        let name = dir.file_name().to_string_lossy().into_owned();
        let broken = |place: &Place, source: std::io::Error| PolicyError::InvalidBundle {
            bundle: name.clone(),
            reason: format!("cannot read {}: {source}", place.path().display()),
        };
        let read = |place: &Place| {
            let mut text = String::new();
            let file = place.open().map_err(|e| broken(place, e))?;
            let read = file.take(KEPT_MAX).read_to_string(&mut text);
            read.map(|_| text).map_err(|e| broken(place, e))
        };
        let schema = read(&dir.join("schema.cedarschema"))?;
        let mut texts = Vec::new();
        for entry in dir.list().map_err(|e| broken(dir, e))? {
            let file = entry.name.to_string_lossy().into_owned();
            if Path::new(&file).extension().is_some_and(|e| e == "cedar") {
                texts.push((file, read(&entry.place)?));
            }
        }
        let texts: Vec<(&str, &str)> = texts
            .iter()
            .map(|(n, t)| (n.as_str(), t.as_str()))
            .collect();
        Self::parse(&name, &schema, &texts)
    }

    /// Parses and validates: `files` are (name, text) in order.
    ///
    /// Every policy must carry `@id`, unique, of `a-z 0-9 . _ -`, and `@advice`. Templates are refused. The hash
    /// is SHA-256 of `"aegis bundle 1"`, the schema, and the joined policies, each behind its length as u64 LE.
    pub fn parse(name: &str, schema: &str, files: &[(&str, &str)]) -> Result<Self, PolicyError> {
        let invalid = |reason: String| PolicyError::InvalidBundle {
            bundle: name.to_owned(),
            reason,
        };
        // Cedar's own warnings about the schema are advice to its author, not faults.
        let (parsed_schema, _) = Schema::from_cedarschema_str(schema)
            .map_err(|e| invalid(format!("schema.cedarschema: {e:?}")))?;
        let mut policies: Vec<Policy> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut joined = String::new();
        for (file, text) in files {
            let set: PolicySet = text.parse().map_err(|e| invalid(format!("{file}: {e}")))?;
            if set.templates().next().is_some() {
                return Err(invalid(format!(
                    "{file}: templates are not supported, write the policy out"
                )));
            }
            for policy in set.policies() {
                let id = checked_id(policy).map_err(|e| invalid(format!("{file}: {e}")))?;
                if !seen.insert(id.clone()) {
                    return Err(invalid(format!("{file}: policy {id} is there twice")));
                }
                policies.push(policy.new_id(PolicyId::new(id)));
            }
            joined.push_str(text);
            joined.push('\n');
        }
        let set = PolicySet::from_policies(policies).map_err(|e| invalid(e.to_string()))?;
        let result = Validator::new(parsed_schema.clone()).validate(&set, ValidationMode::Strict);
        // Each message of Cedar names its policy: "for policy `core.purpose`, ...".
        if let Some(first) = result.validation_errors().next() {
            let more = result.validation_errors().count() - 1;
            return Err(invalid(format!("{first} (and {more} more)")));
        }
        let hash = sha256(&[b"aegis bundle 1", schema.as_bytes(), joined.as_bytes()]);
        Ok(Self {
            name: name.to_owned(),
            version: hex(&hash[..6]),
            schema_text: schema.to_owned(),
            policies_text: joined,
            hash,
            schema_hash: sha256(&[b"aegis schema 1", schema.as_bytes()]),
            schema: parsed_schema,
            set,
        })
    }

    /// Name: of the folder, or "core".
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The engine's version for the core bundle, else the first 12 digits of the hash.
    pub fn version(&self) -> &str {
        &self.version
    }
    /// Text of the policies.
    pub fn policies(&self) -> &str {
        &self.policies_text
    }
    /// Text of the schema.
    pub fn schema(&self) -> &str {
        &self.schema_text
    }
    /// Hash of schema and policies; permits and vaults are bound to it.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
    /// Hash of the schema alone.
    pub fn schema_hash(&self) -> [u8; 32] {
        self.schema_hash
    }

    /// Ids of the policies, sorted.
    pub fn ids(&self) -> BTreeSet<String> {
        self.set.policies().map(|p| p.id().to_string()).collect()
    }

    /// A policy's advice.
    pub fn advice(&self, id: &str) -> Option<&str> {
        self.set.annotation(&PolicyId::new(id), "advice")
    }
}

fn checked_id(policy: &Policy) -> Result<String, String> {
    let place = policy
        .to_string()
        .lines()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ");
    let id = policy
        .annotation("id")
        .ok_or_else(|| format!("a policy has no @id: {place}"))?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    if id.is_empty() || id == DEFAULT_DENY || !id.chars().all(plain) {
        return Err(format!(
            "policy id {id:?} must be of a-z 0-9 . _ - and not {DEFAULT_DENY}"
        ));
    }
    if policy
        .annotation("advice")
        .is_none_or(|a| a.trim().is_empty())
    {
        return Err(format!(
            "policy {id} has no @advice: say what a person who is denied should do"
        ));
    }
    Ok(id.to_owned())
}
