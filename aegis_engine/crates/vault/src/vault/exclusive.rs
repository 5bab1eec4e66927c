//! What can be done while the vault is held exclusively: the only place that writes the keystore.

use std::collections::btree_map;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, RwLockReadGuard};

use aegis_audit::{Event, Mark};
use uuid::Uuid;

use crate::error::{Result, VaultError};
use crate::format::changes::RECORD;
use crate::format::envelope::{self, Base, Envelope, Form};
use crate::format::keystore::{self, Delta, Entry, KeyRecord};
use crate::format::paths::About;
use crate::keys::auth::Auth;
use crate::keys::epoch::{self, EpochKey};
use crate::keys::provider::Destroyed;
use crate::secret::Secret;
use crate::system::failpoint;
use crate::system::files::{self, Stamp};
use crate::system::lock::{self, VaultLock};
use crate::vault::journal;
use crate::vault::proof;
use crate::vault::state::State;
use crate::vault::{Exclusive, Inner};

impl Inner {
    /// Takes the lock, finishes what a crash left, loads the keystore.
    pub fn exclusive(&self) -> Result<Exclusive<'_>> {
        let mut exclusive = self.exclusive_as_it_is()?;
        journal::roll_forward(&mut exclusive)?;
        Ok(exclusive)
    }

    /// As [`exclusive`](Self::exclusive), but leaves the journal alone.
    pub fn exclusive_as_it_is(&self) -> Result<Exclusive<'_>> {
        self.same_process()?;
        self.writable()?;
        let held = lock::exclusive(&self.paths.lock(), self.lock_wait())?;
        self.exclusive_holding(held)
    }

    /// Under a lock that is already held. Where it is only for reading nothing is settled, and a commit fails.
    pub fn exclusive_holding(&self, mut held: VaultLock) -> Result<Exclusive<'_>> {
        self.refresh()?;
        held.sign();
        let (epoch, generation) = {
            let state = self.known();
            (state.epoch, state.generation)
        };
        if !self.read_only {
            epoch::settle(&self.paths, self.id, epoch, &self.auth().provider)?;
        }
        let exclusive = Exclusive {
            inner: self,
            delta: Delta::default(),
            epoch,
            generation,
            lock: held,
        };
        if !self.read_only {
            exclusive.record_epoch()?;
        }
        Ok(exclusive)
    }
}

impl Exclusive<'_> {
    /// The keystore as it is on disk. Nobody changes it while this lives; do not hold it over a commit.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.inner.known()
    }

    /// What is known of an object, with what the next commit changes.
    pub fn entry(&self, object: Uuid) -> Option<Entry> {
        match self.delta.entries.get(&object) {
            Some(changed) => Some(changed.clone()),
            None => self.state().body.entries.get(&object).cloned(),
        }
    }

    /// The live record of `object`, or why there is none.
    pub fn live(&self, object: Uuid) -> Result<KeyRecord> {
        keystore::live(self.entry(object).as_ref(), object).cloned()
    }

    pub fn put(&mut self, object: Uuid, entry: Entry) {
        self.delta.entries.insert(object, entry);
    }

    /// Turns a record into a tombstone; it counts with the next ratchet.
    pub fn shred(&mut self, object: Uuid, when: u64) {
        self.put(object, Entry::Shredded { when });
    }

    /// Lets `with` use the key of a subject, which is made when there is none.
    pub fn subject<T>(
        &mut self,
        subject: [u8; 16],
        with: impl FnOnce(&Secret<32>) -> Result<T>,
    ) -> Result<T> {
        let inner = self.inner;
        let state = inner.known();
        if let Some(key) = state.body.subjects.get(&subject) {
            return with(key);
        }
        match self.delta.subjects.entry(subject) {
            btree_map::Entry::Occupied(known) => with(known.get()),
            btree_map::Entry::Vacant(new) => with(new.insert(Secret::random()?)),
        }
    }

    fn seal(&self, auth: &Auth, epoch_key: &EpochKey) -> Result<(Envelope, Base, Mark)> {
        let root = auth.root(self.inner.id, epoch_key)?;
        let envelope = auth.envelope(
            Form::Keystore,
            self.inner.id,
            epoch_key.epoch,
            self.generation + 1,
        );
        let audit = self.inner.log.mark();
        let base = envelope::seal(&envelope, &root, &self.state().body, &self.delta, &audit)?;
        Ok((envelope, base, audit))
    }

    /// A base is in place: readers of this process have it from here on.
    fn rebased(&mut self, envelope: &Envelope, base: Base, audit: Mark) -> Result<()> {
        let stamp = Stamp::of(&self.inner.paths.keystore())?;
        let delta = std::mem::take(&mut self.delta);
        self.inner
            .settle(|state| state.rebase(stamp, envelope, base, delta, audit));
        self.epoch = envelope.epoch;
        self.generation = envelope.generation;
        Ok(())
    }

    /// Makes the change durable: appended to the keystore, or as a new base when the changes have outgrown the old one.
    pub fn commit(&mut self) -> Result<()> {
        let auth = self.inner.auth();
        // Read anew, so that the loss of the secret is noticed before a change goes into a keystore that nobody opens.
        let current = auth.epoch_key(&self.inner.paths, self.inner.id, self.epoch)?;
        if !self.append()? {
            let (envelope, base, audit) = self.seal(&auth, &current)?;
            files::replace(&self.inner.paths.keystore(), &base.bytes)?;
            failpoint::point("commit.replaced")?;
            self.rebased(&envelope, base, audit)?;
        }
        self.record_generation()
    }

    /// Appends what changes to the keystore; false when it needs a new base.
    fn append(&mut self) -> Result<bool> {
        if !self.delta.is_additive() {
            return Ok(false);
        }
        let audit = self.inner.log.mark();
        let plain = self.delta.encode(&audit)?;
        let (record, link, at) = {
            let state = self.state();
            let size = (RECORD + plain.len() + 16) as u64;
            let next = state.next(size);
            // A generation that was accepted in place of a newer one leaps, which no change can.
            let Some((chain, at)) = next.filter(|_| state.generation == self.generation) else {
                return Ok(false);
            };
            let (record, link) = chain.seal(plain)?;
            (record, link, at)
        };
        failpoint::point("change.sealed")?;
        self.write(&record, at)?;
        failpoint::point("change.synced")?;
        let stamp = Stamp::of(&self.inner.paths.keystore())?;
        let delta = std::mem::take(&mut self.delta);
        self.inner.settle(|state| {
            state.body.apply(delta, audit);
            state.appended(stamp, record.len() as u64, link);
        });
        self.generation += 1;
        Ok(true)
    }

    fn write(&self, record: &[u8], at: u64) -> Result<()> {
        let path = self.inner.paths.keystore();
        let file = path
            .open_to_write()
            .map_err(VaultError::io("open", &path))?;
        let written = file.write_all_at(&record[..RECORD], at).and_then(|()| {
            failpoint::point("change.torn").map_err(std::io::Error::other)?;
            file.write_all_at(&record[RECORD..], at + RECORD as u64)?;
            failpoint::point("change.written").map_err(std::io::Error::other)?;
            file.sync_data()
        });
        written.map_err(|source| {
            // Not reported durable, so it must not come back. Where that fails, too, the next commit finds it torn or whole.
            let _ = file.set_len(at).and_then(|()| file.sync_data());
            VaultError::io("append to", &path)(source)
        })
    }

    /// Writes the body under a new root and destroys the old one: no older copy of the keystore opens any more, neither
    /// its base nor its changes.
    pub fn ratchet(&mut self) -> Result<Destroyed> {
        self.ratchet_to(self.inner.auth())
    }

    /// As [`ratchet`](Self::ratchet), under another key.
    pub fn ratchet_to(&mut self, auth: Arc<Auth>) -> Result<Destroyed> {
        let Inner { paths, id, .. } = self.inner;
        // Its overwriting at the end could not be carried out.
        files::sole(&paths.epoch_key())?;
        let old = self.inner.auth();
        let next = EpochKey::random(self.epoch + 1)?;
        let (envelope, base, audit) = self.seal(&auth, &next)?;
        failpoint::point("ratchet.start")?;
        next.write_next(paths, *id, &auth.provider)?;
        failpoint::point("ratchet.next")?;
        files::replace(&paths.keystore(), &base.bytes)?;
        // From here on the ratchet is done, whatever happens: `settle` finishes it.
        self.rebased(&envelope, base, audit)?;
        self.inner.set_auth(auth);
        failpoint::point("ratchet.keystore")?;
        let gone = epoch::promote(paths, *id, self.epoch, &old.provider)?;
        failpoint::point("ratchet.promoted")?;
        self.record_generation()?;
        self.record_epoch()?;
        Ok(gone)
    }

    /// On record only after it is durable: a keystore older than the log says was put back, not interrupted.
    fn record_generation(&self) -> Result<()> {
        let facts = proof::keystore_record(self.generation, self.epoch, &self.state().body.node)?;
        self.inner.log.record(Event::Keystore, facts)?;
        failpoint::point("commit.logged")?;
        Ok(())
    }

    /// `vault.json` follows the keystore.
    fn record_epoch(&self) -> Result<()> {
        let mut about = About::read(&self.inner.paths)?;
        let provider = self.inner.auth().provider.kind().name();
        if about.epoch < self.epoch || about.provider != provider {
            about.epoch = self.epoch;
            provider.clone_into(&mut about.provider);
            about.write(&self.inner.paths)?;
        }
        Ok(())
    }

    /// Gives the lock back; what was not committed is forgotten.
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // the end of every operation
    pub fn done(self) -> Result<()> {
        self.finish().map(drop)
    }

    /// As [`done`](Self::done), with the lock still held.
    #[allow(clippy::unnecessary_wraps)] // the end of every operation
    pub fn finish(self) -> Result<VaultLock> {
        Ok(self.lock)
    }
}
