//! The vault held exclusively: the only place that writes the keystore.

use crate::envelope::{self, Envelope};
use crate::epoch::{self, EpochKey};
use crate::error::Result;
use crate::fail;
use crate::files::{self, Stamp};
use crate::keystore::Body;
use crate::layout::About;
use crate::lock::{self, VaultLock};
use crate::provider;
use crate::recover;
use crate::vault::{Inner, State};

/// The lock, and the keystore as it is on disk.
pub(crate) struct Exclusive<'a> {
    pub inner: &'a Inner,
    pub body: Body,
    pub epoch: u64,
    _lock: VaultLock,
}

impl Inner {
    /// Takes the lock, finishes what a crash left, loads the keystore.
    pub fn exclusive(&self) -> Result<Exclusive<'_>> {
        self.same_process()?;
        let held = lock::exclusive(&self.layout.lock(), self.lock_wait())?;
        let State { epoch, body, .. } = State::load(&self.layout, self.id, &self.key)?;
        epoch::settle(&self.layout, self.id, epoch)?;
        let mut exclusive = Exclusive {
            inner: self,
            body,
            epoch,
            _lock: held,
        };
        exclusive.record_epoch()?;
        recover::roll(&mut exclusive)?;
        Ok(exclusive)
    }
}

impl Exclusive<'_> {
    fn seal(&mut self, next: &EpochKey) -> Result<Vec<u8>> {
        let Inner {
            id,
            key,
            provider,
            log,
            ..
        } = self.inner;
        let head = log.head();
        self.body.audit = (head.seq, head.hash);
        let root = provider::root(*id, key, next.epoch, &next.secret)?;
        let envelope = Envelope {
            vault: *id,
            epoch: next.epoch,
            key_check: provider::key_check(*id, key)?,
        };
        envelope::seal(envelope, *provider, &root, &self.body)
    }

    /// Writes the body under a fresh epoch key and the same root.
    pub fn commit(&mut self) -> Result<()> {
        let current = epoch::current(&self.inner.layout, self.inner.id, self.epoch)?;
        let sealed = self.seal(&current)?;
        files::replace(&self.inner.layout.keystore(), &sealed)
    }

    /// Writes the body under a new root and destroys the old one: no older copy of the keystore opens any more.
    pub fn ratchet(&mut self) -> Result<()> {
        let layout = &self.inner.layout;
        let next = EpochKey::random(self.epoch + 1)?;
        let sealed = self.seal(&next)?;
        fail::point("ratchet.start")?;
        next.write_next(layout, self.inner.id)?;
        fail::point("ratchet.next")?;
        files::replace(&layout.keystore(), &sealed)?;
        // From here on the ratchet is done, whatever happens: `settle` finishes it.
        self.epoch += 1;
        fail::point("ratchet.keystore")?;
        epoch::promote(layout)?;
        fail::point("ratchet.promoted")?;
        self.record_epoch()
    }

    /// `vault.json` follows the keystore.
    fn record_epoch(&self) -> Result<()> {
        let mut about = About::read(&self.inner.layout)?;
        if about.epoch < self.epoch {
            about.epoch = self.epoch;
            about.write(&self.inner.layout)?;
        }
        Ok(())
    }

    /// Hands the body over to the readers of this process and gives the lock back.
    pub fn done(self) -> Result<()> {
        let stamp = Stamp::of(&self.inner.layout.keystore())?;
        self.inner.put(State {
            stamp,
            epoch: self.epoch,
            body: self.body,
        })
    }
}
