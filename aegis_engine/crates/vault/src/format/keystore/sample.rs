//! A change that has something of everything, for the unit tests and the fuzzers' seeds.

use uuid::Uuid;

use super::{Delta, Entry, KeyRecord, KnownCopy};

impl Delta {
    /// Adds the objects 1 to 3, of which `shredded` is gone again, and a copy of the keystore.
    pub(crate) fn fill(&mut self, record: impl Fn(u128) -> KeyRecord, shredded: u128) {
        for n in 1..4 {
            let entry = Entry::Live(Box::new(record(n)));
            self.entries.insert(Uuid::from_u128(n), entry);
        }
        let gone = Entry::Shredded { when: 11 };
        self.entries.insert(Uuid::from_u128(shredded), gone);
        self.copies.push(KnownCopy {
            when: 1,
            epoch: 2,
            generation: 3,
            label: "usb stick".to_owned(),
        });
    }
}
