//! Pseudonyms of data subjects, counted and looked up.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Pseudonym of a data subject, a keyed MAC of the person's identifier made by the vault.
pub type Subject = [u8; 16];

/// Hashes pseudonyms by mixing their two halves: they are keyed MACs, so nobody chooses their collisions.
#[derive(Default, Clone, Copy)]
pub struct SubjectHasher(u64);

impl Hasher for SubjectHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(23) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    // The length in front of an array: always 16.
    fn write_usize(&mut self, _: usize) {}
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Of maps by pseudonym.
pub type BySubject = BuildHasherDefault<SubjectHasher>;

/// These subjects, each once, in ascending order. Holds no more than the different ones, where rows of one person lie together.
pub fn distinct<'s>(subjects: impl Iterator<Item = &'s Subject>) -> Vec<Subject> {
    let mut all: Vec<Subject> = Vec::new();
    for subject in subjects {
        if all.last() != Some(subject) {
            all.push(*subject);
        }
    }
    all.sort_unstable();
    all.dedup();
    all.shrink_to_fit();
    all
}

/// Number of different subjects among these.
pub(crate) fn count_distinct<'s>(subjects: impl Iterator<Item = &'s Subject>) -> u64 {
    let mut seen: HashSet<Subject, BySubject> = HashSet::default();
    let mut last = None;
    for subject in subjects {
        // Rows of one person mostly lie together.
        if last != Some(subject) {
            seen.insert(*subject);
            last = Some(subject);
        }
    }
    seen.len() as u64
}
