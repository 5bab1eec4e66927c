//! The vault held exclusively: the only place that writes the keystore.

use std::sync::Arc;

use serde_json::json;

use crate::auth::Auth;
use crate::envelope::{self, Form};
use crate::epoch::{self, EpochKey};
use crate::error::Result;
use crate::fail;
use crate::files::{self, Stamp};
use crate::keystore::Body;
use crate::layout::About;
use crate::lock::{self, VaultLock};
use crate::provider::Destroyed;
use crate::recover;
use crate::vault::{Inner, KEYSTORE_EVENT, State};

/// The lock, and the keystore as it is on disk.
pub(crate) struct Exclusive<'a> {
    pub inner: &'a Inner,
    pub body: Body,
    pub epoch: u64,
    pub generation: u64,
    lock: VaultLock,
}

impl Inner {
    /// Takes the lock, finishes what a crash left, loads the keystore.
    pub fn exclusive(&self) -> Result<Exclusive<'_>> {
        let mut exclusive = self.exclusive_as_it_is()?;
        recover::roll(&mut exclusive)?;
        Ok(exclusive)
    }

    /// As [`exclusive`](Self::exclusive), but leaves the journal alone.
    pub fn exclusive_as_it_is(&self) -> Result<Exclusive<'_>> {
        self.same_process()?;
        self.writable()?;
        let held = lock::exclusive(&self.layout.lock(), self.lock_wait())?;
        self.exclusive_holding(held)
    }

    /// Under a lock that is already held. Where it is only for reading nothing is settled, and a commit fails.
    pub fn exclusive_holding(&self, mut held: VaultLock) -> Result<Exclusive<'_>> {
        let state = self.load()?;
        held.sign();
        if !self.read_only {
            epoch::settle(&self.layout, self.id, state.epoch, &self.auth().provider)?;
        }
        // A generation that was accepted in place of a newer one goes on from the newer.
        let known = self.known().generation;
        let exclusive = Exclusive {
            inner: self,
            body: state.body,
            epoch: state.epoch,
            generation: state.generation.max(known),
            lock: held,
        };
        if !self.read_only {
            exclusive.record_epoch()?;
        }
        Ok(exclusive)
    }
}

impl Exclusive<'_> {
    fn seal(&mut self, auth: &Auth, epoch_key: &EpochKey) -> Result<Vec<u8>> {
        let head = self.inner.log.head();
        self.body.audit = (head.seq, head.hash);
        let root = auth.root(self.inner.id, epoch_key)?;
        let envelope = auth.envelope(
            Form::Keystore,
            self.inner.id,
            epoch_key.epoch,
            self.generation + 1,
        );
        envelope::seal(&envelope, &root, &self.body)
    }

    /// Writes the body under a fresh epoch key and the same root.
    pub fn commit(&mut self) -> Result<()> {
        let auth = self.inner.auth();
        let current = auth.epoch_key(&self.inner.layout, self.inner.id, self.epoch)?;
        let sealed = self.seal(&auth, &current)?;
        files::replace(&self.inner.layout.keystore(), &sealed)?;
        self.generation += 1;
        fail::point("commit.replaced")?;
        self.record_generation()
    }

    /// Writes the body under a new root and destroys the old one: no older copy of the keystore opens any more.
    pub fn ratchet(&mut self) -> Result<Destroyed> {
        self.ratchet_to(self.inner.auth())
    }

    /// As [`ratchet`](Self::ratchet), under another key.
    pub fn ratchet_to(&mut self, auth: Arc<Auth>) -> Result<Destroyed> {
        let Inner { layout, id, .. } = self.inner;
        let old = self.inner.auth();
        let next = EpochKey::random(self.epoch + 1)?;
        let sealed = self.seal(&auth, &next)?;
        fail::point("ratchet.start")?;
        next.write_next(layout, *id, &auth.provider)?;
        fail::point("ratchet.next")?;
        files::replace(&layout.keystore(), &sealed)?;
        // From here on the ratchet is done, whatever happens: `settle` finishes it.
        self.epoch += 1;
        self.generation += 1;
        self.inner.set_auth(auth);
        fail::point("ratchet.keystore")?;
        let gone = epoch::promote(layout, *id, self.epoch, &old.provider)?;
        fail::point("ratchet.promoted")?;
        self.record_generation()?;
        self.record_epoch()?;
        Ok(gone)
    }

    /// On record only after it is durable: a keystore older than the log says was put back, not interrupted.
    fn record_generation(&self) -> Result<()> {
        self.inner.log.append(&json!({
            "event": KEYSTORE_EVENT, "generation": self.generation, "epoch": self.epoch,
        }))?;
        fail::point("commit.logged")?;
        Ok(())
    }

    /// `vault.json` follows the keystore.
    fn record_epoch(&self) -> Result<()> {
        let mut about = About::read(&self.inner.layout)?;
        let provider = self.inner.auth().provider.kind().name();
        if about.epoch < self.epoch || about.provider != provider {
            about.epoch = self.epoch;
            provider.clone_into(&mut about.provider);
            about.write(&self.inner.layout)?;
        }
        Ok(())
    }

    /// Hands the body over to the readers of this process and gives the lock back.
    pub fn done(self) -> Result<()> {
        self.finish().map(drop)
    }

    /// As [`done`](Self::done), with the lock still held.
    pub fn finish(self) -> Result<VaultLock> {
        let stamp = Stamp::of(&self.inner.layout.keystore())?;
        self.inner.put(State {
            stamp,
            epoch: self.epoch,
            generation: self.generation,
            body: self.body,
        })?;
        Ok(self.lock)
    }
}
