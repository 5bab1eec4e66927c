//! Erasing a person (GDPR article 17): consent ends, and their rows become unreadable. Each dataset that has some is written
//! anew without them, under fresh keys, and the old keys are destroyed as a shred does: all datasets in one keystore write.
//!
//! The name, the terms and the lineages stay, so a budget stays spent. A table becomes a Parquet file of the rows that are left.

use aegis_audit::Event;
use aegis_memory::Pages;
use aegis_policy::{Change, ConsentError, PolicyError, Subject};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::dataset::Dataset;
use crate::dataset::anew::Anew;
use crate::error::{Result, VaultError};
use crate::format::keystore::{Kind, KnownCopy};
use crate::format::schema::Layout;
use crate::level::Level;
use crate::ops::doctor::caveats;
use crate::ops::reencrypt::{Source, Swap};
use crate::ops::store;
use crate::system::failpoint;
use crate::vault::{Vault, now};

/// A dataset that had rows of the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasedFrom {
    /// The dataset as it was; its keys are gone, unless `unreachable`.
    pub dataset: Uuid,
    /// The dataset now; none when no row was left.
    pub now: Option<Uuid>,
    /// The name it keeps.
    pub name: String,
    /// Rows of the person.
    pub rows: u64,
    /// It is a table, and this engine is built without tables: no permit opens the rows any more, and their bytes stay.
    pub unreachable: bool,
}

/// Evidence of one erasure, for the steward; never claims more than was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EraseReceipt {
    /// The level at which old keys were destroyed.
    pub level: Level,
    /// Epoch before.
    pub epoch_before: u64,
    /// Epoch of the keystore now.
    pub epoch_after: u64,
    /// Seconds since 1970.
    pub when: u64,
    /// Every live dataset that had rows of the person.
    pub datasets: Vec<ErasedFrom>,
    /// Objects about the person alone, shredded.
    pub objects: Vec<Uuid>,
    /// Sequence number of the audit record.
    pub audit_seq: u64,
    /// Backups of the keystore that still open what they hold.
    pub copies: Vec<KnownCopy>,
    /// What this does not reach.
    pub caveats: Vec<String>,
}

/// How often a dataset may be written anew by others while a person is erased from it.
const TURNS: usize = 100;
const MODELS: &str = "models trained on the rows keep what they learnt from them";
const TABLES: &str = "rows in tables are closed to every permit, but their bytes stay until the table is stored anew without \
     them and the old one is shredded";

impl Vault {
    /// Erases a person: no row of theirs in any live dataset can be read again. May be called again after a crash; then it
    /// finishes.
    ///
    /// # Errors
    /// AEG-P014 when nothing in the vault is theirs; [`crate::VaultError::InsufficientAssurance`] when `require` cannot be
    /// reached: nothing has happened then.
    pub fn erase_person(&self, identifier: &str, require: Option<Level>) -> Result<EraseReceipt> {
        self.check_level(require)?;
        let rows = self.rows_of_people()?;
        let who = self.named(identifier, &rows)?;
        let alone = self.objects_about(identifier)?;
        if !who.known && alone.is_empty() {
            let hint = self.look_alike(identifier, &rows)?;
            let unknown = ConsentError::UnknownSubject { count: 1, hint };
            return Err(PolicyError::from(unknown).into());
        }
        let epoch_before = self.epoch()?;
        // First: from here on no permit covers a row of theirs, whatever happens.
        self.change_consent(Change::Erase, &[identifier.to_owned()], None, true)?;
        failpoint::point("erase.recorded")?;
        let from = self.erase_rows(&who.forms)?;
        if !alone.is_empty() {
            self.shred_many(&alone, None)?;
        }
        let state = self.inner.current()?;
        let (epoch_after, copies) = (state.epoch, state.body.copies.clone());
        drop(state);
        let level = self.shred_level();
        let when = now();
        // Counts only: who it was, nobody is to learn from the log.
        let facts = json!({
            "level": level.name(),
            "datasets": from.len(),
            "unreachable": from.iter().filter(|entry| entry.unreachable).count(),
            "objects": alone.len(),
            "epoch_before": epoch_before,
            "epoch_after": epoch_after,
            "when": when,
            "known_copies": copies.len(),
        });
        let audit = self.inner.log.record(Event::Erase, facts)?;
        let mut limits = caveats(&self.inner.paths.root);
        limits.push(MODELS.to_owned());
        if from.iter().any(|entry| entry.unreachable) {
            limits.push(TABLES.to_owned());
        }
        Ok(EraseReceipt {
            level,
            epoch_before,
            epoch_after,
            when,
            datasets: from,
            objects: alone,
            audit_seq: audit.seq,
            copies,
            caveats: limits,
        })
    }

    /// Writes every dataset with rows of that person anew. Nobody adds such rows any more, but somebody may at this moment write
    /// a dataset anew that has some: then it is looked for again.
    fn erase_rows(&self, forms: &[Subject]) -> Result<Vec<ErasedFrom>> {
        let mut from = Vec::new();
        for turn in 1.. {
            match self.erase_rows_once(forms, &mut from) {
                Err(VaultError::ObjectShredded { .. } | VaultError::ObjectNotFound { .. })
                    if turn < TURNS => {}
                other => return other.map(|()| from),
            }
        }
        Ok(from)
    }

    fn erase_rows_once(&self, forms: &[Subject], from: &mut Vec<ErasedFrom>) -> Result<()> {
        let (mut swaps, mut anew) = (Vec::new(), Vec::new());
        let (mut gone, mut whole) = (Vec::new(), Vec::new());
        for set in self.rows_of_people()? {
            let mine: u64 = forms.iter().map(|form| set.of(form).0).sum();
            if mine == 0 || from.iter().any(|one| one.now == Some(set.object)) {
                continue;
            }
            let dataset = self.dataset(set.object)?;
            let mut entry = ErasedFrom {
                dataset: set.object,
                now: None,
                name: self.stat(set.object)?.name,
                rows: mine,
                unreachable: false,
            };
            if mine == u64::from(dataset.rows) {
                gone.push(set.object);
                whole.push(entry);
            } else if matches!(dataset.layout, Layout::Table(_)) && cfg!(not(feature = "tables")) {
                entry.now = Some(set.object);
                entry.unreachable = true;
                from.push(entry);
            } else {
                let swap = self.without_rows_of(&dataset, forms)?;
                entry.now = Some(swap.new_id());
                swaps.push(swap);
                anew.push(entry);
            }
        }
        failpoint::point("erase.written")?;
        if !swaps.is_empty() {
            self.replace(swaps)?;
            from.append(&mut anew);
        }
        if !gone.is_empty() {
            self.shred_many(&gone, None)?;
            from.append(&mut whole);
        }
        Ok(())
    }

    /// Objects stored with that person as their subject.
    pub(crate) fn objects_about(&self, identifier: &str) -> Result<Vec<Uuid>> {
        let state = self.inner.current()?;
        let node = &state.body.node;
        let ids = [
            store::subject_id(node, Some(identifier))?,
            store::subject_id_as_spelt(node, identifier)?,
        ];
        let all = state.body.records();
        Ok(all
            .filter(|record| ids.contains(&record.subject) && record.kind == Kind::Data)
            .map(|record| record.object)
            .collect())
    }

    /// The dataset anew, without the rows of that person; nothing of it is visible yet.
    fn without_rows_of(&self, dataset: &Dataset, person: &[Subject]) -> Result<Swap> {
        #[cfg(feature = "tables")]
        if matches!(dataset.layout, Layout::Table(_)) {
            return self.table_without(dataset, person);
        }
        self.without(dataset, person)
    }

    /// As [`without_rows_of`](Self::without_rows_of), of records.
    fn without(&self, dataset: &Dataset, person: &[Subject]) -> Result<Swap> {
        let inner = &self.inner;
        let source = Source::open(inner, dataset.id)?;
        let stride = dataset.records()?.record_len();
        let kept = |row: usize| !person.contains(&dataset.index.subjects[row]);
        let places = dataset.index.places(|who| !person.contains(who));
        let mut facts = dataset.facts.clone();
        facts.lineages = dataset.lineages(self)?;
        let log2 = source.file.header.chunk_log2;
        let mut anew = Anew::begin(self, &source.record, source.meta(), log2)?;
        let mut at = 0;
        source.each(|plain: &mut Pages, len| {
            let mut done = 0;
            while done < len {
                // To the end of the record or of the chunk, whichever comes first.
                let row = (at + done) / stride;
                let end = ((row + 1) * stride - at).min(len);
                if kept(row) {
                    anew.data.append(&plain[done..end])?;
                }
                done = end;
            }
            at += len;
            Ok(())
        })?;
        anew.finish(&dataset.layout, &dataset.index.select(&places), &facts)
    }
}
