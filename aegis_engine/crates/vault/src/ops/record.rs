//! Records of the programs above the vault in its audit log. Names and fields that a decision may rest on are not theirs.

use aegis_audit::Record;
use aegis_audit::event::{MAX_EVENT, RESERVED_FIELDS, is_plugin, is_reserved};
use serde_json::{Map, Value};

use crate::error::{Result, VaultError};
use crate::vault::Vault;

fn bad(what: String) -> VaultError {
    VaultError::BadRequest { what }
}

impl Vault {
    /// Writes a record of an application, durably.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] for an event of the engine or of the plugin, and for the fields that the log adds.
    pub fn record(&self, event: &str, facts: Map<String, Value>) -> Result<Record> {
        if is_reserved(event) {
            return Err(bad(format!(
                "the event {event:?} is one of the engine's; give the record a name of its own, such as app.{event}"
            )));
        }
        self.record_as(event, facts)
    }

    /// Writes a record of the plugin: a family of events that applications cannot write.
    ///
    /// # Errors
    /// As [`record`](Self::record), for every event that is not the plugin's.
    pub fn record_plugin(&self, event: &str, facts: Map<String, Value>) -> Result<Record> {
        if !is_plugin(event) {
            return Err(bad(format!(
                "the event {event:?} is not one of the plugin's (privacy.…, ingest.…); record it as an application does"
            )));
        }
        self.record_as(event, facts)
    }

    fn record_as(&self, event: &str, mut facts: Map<String, Value>) -> Result<Record> {
        if event.is_empty() || event.len() > MAX_EVENT || event.chars().any(char::is_control) {
            return Err(bad(format!(
                "the name of an event has 1 to {MAX_EVENT} bytes and no control characters; choose another"
            )));
        }
        if let Some(field) = RESERVED_FIELDS
            .iter()
            .find(|field| facts.contains_key(**field))
        {
            return Err(bad(format!(
                "the field {field:?} of a record is the log's own; rename it"
            )));
        }
        facts.insert("event".to_owned(), event.into());
        Ok(self.inner.log.append(&Value::Object(facts))?)
    }
}
