//! The names of the engine's events, in one place: whoever writes a record takes its name from here, so a new event is
//! reserved as soon as it can be written.

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What a record of the engine is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* $variant,)*
        }

        impl Event {
            /// Every event there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The text in the field `event`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

events! {
    /// The log cut a torn tail.
    RecoveryTruncated = "recovery.truncated",
    /// A vault was made.
    VaultCreate = "vault.create",
    /// An object was stored.
    Store = "store",
    /// Many objects were stored in one commit.
    StoreMany = "store.many",
    /// A store that a crash interrupted was undone.
    StoreRolledBack = "store.rolled_back",
    /// The keystore became durable.
    Keystore = "keystore",
    /// A copy of the keystore was made.
    KeystoreBackup = "keystore.backup",
    /// A copy of the keystore was put back.
    KeystoreRestored = "keystore.restored",
    /// An older keystore was accepted.
    KeystoreAccepted = "keystore.accepted",
    /// An object was renamed.
    Rename = "rename",
    /// The root was renewed.
    Rotate = "rotate",
    /// An object was encrypted anew.
    Reencrypt = "reencrypt",
    /// The old keys of a re-encryption are gone.
    ReencryptDone = "reencrypt.done",
    /// Keys were destroyed.
    Shred = "shred",
    /// The vault was put under a bundle.
    Govern = "govern",
    /// The folder was checked.
    Fsck = "fsck",
    /// The content was checked.
    Scrub = "scrub",
    /// The vault was destroyed.
    Destroy = "destroy",
    /// The consent log changed.
    Consent = "consent",
    /// A decision about a read.
    Authorize = "authorize",
    /// A decision about a number that leaves.
    Release = "release",
    /// A consent record: granted.
    ConsentGrant = "consent.grant",
    /// A consent record: withdrawn.
    ConsentWithdraw = "consent.withdraw",
    /// A consent record: objected.
    ConsentObject = "consent.object",
    /// A consent record: restricted.
    ConsentRestrict = "consent.restrict",
    /// A consent record: lifted.
    ConsentLift = "consent.lift",
    /// A consent record: erased.
    ConsentErase = "consent.erase",
    /// A consent record: earlier ones count as proven.
    ConsentAdopt = "consent.adopt",
    /// Rows of a person were removed.
    Erase = "erase",
    /// The terms of a data set were changed.
    Amend = "amend",
    /// A record of the register of lineages.
    Lineage = "lineage",
}

/// First words of the plugin's own events, which decisions rest on as well.
const PLUGIN: &[&str] = &["privacy", "ingest"];

/// Fields that a log or a reader adds.
pub const RESERVED_FIELDS: &[&str] = &["time", "seq", "hash", "event", "prev"];

/// Longest name of an event, in bytes.
pub const MAX_EVENT: usize = 256;

/// The word before the first dot.
fn family(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

/// Whether `name` is one that an application must not write: an event of the engine or the plugin, or one that could become
/// one, since families belong together (`keystore.anything`).
pub fn is_reserved(name: &str) -> bool {
    is_engine(name) || PLUGIN.contains(&family(name))
}

/// Whether `name` is an event of the engine or of one of its families.
pub fn is_engine(name: &str) -> bool {
    Event::ALL
        .iter()
        .any(|event| family(event.name()) == family(name))
}

/// Whether `name` belongs to the plugin.
pub fn is_plugin(name: &str) -> bool {
    PLUGIN.contains(&family(name)) && !is_engine(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_name_of_its_own_and_is_reserved() {
        let mut names: Vec<&str> = Event::ALL.iter().map(|event| event.name()).collect();
        assert!(names.iter().all(|name| is_reserved(name)));
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn families_are_reserved_and_other_words_are_free() {
        for taken in [
            "keystore.x",
            "shred.",
            "privacy.reserve",
            "privacy",
            "ingest.finished",
        ] {
            assert!(is_reserved(taken), "{taken}");
        }
        for free in ["train.epoch", "keystores", "my.keystore", "stored"] {
            assert!(!is_reserved(free), "{free}");
        }
        assert!(is_plugin("privacy.reserve") && !is_plugin("keystore"));
    }
}
