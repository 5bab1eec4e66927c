//! What the hostile server has: everybody else, and everything that the client let out of its hands.

use std::collections::{BTreeMap, HashMap};

use super::super::material::{self, Ask, Bytes, MEMORY, Memory, NODES};
use crate::keys;
use crate::message::{Advert, Commit, RoundKey, Sets, ShareReply};
use crate::wire::Header;

/// The client under attack: some ids are lower, some higher.
pub(super) const PLACE: usize = 1;

// Steps of a program, each behind its number.
pub(super) const SHARE: u8 = 0;

pub(super) const MASKED: u8 = 1;

pub(super) const COMMIT: u8 = 2;

pub(super) const UNMASK: u8 = 3;

pub(super) const RESTORE: u8 = 4;

pub(super) const REPEAT: u8 = 5;

/// What an execution begins with.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) state: Bytes,
    pub(super) round: Option<Shared>,
    pub(super) given: Given,
}

/// The share step as the server saw it: what all were asked, and this client's answer.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) header: Header,
    pub(super) request: Vec<u8>,
    pub(super) transcript: [u8; 32],
    pub(super) cohort: Vec<usize>,
    pub(super) reply: Vec<u8>,
    pub(super) key: RoundKey,
    /// Those this client sealed shares for.
    pub(super) near: Vec<u64>,
}

/// Everything that this client let out of its hands: it must never do so twice in a way that leaks.
#[derive(Clone, Default)]
pub(super) struct Given {
    pub(super) round: u64,
    pub(super) masked: Option<u64>,
    pub(super) binding: [u8; 32],
    pub(super) signed: BTreeMap<u64, Sets>,
    /// By round and peer: whether a share of its seed (or else of its mask secret) was given.
    pub(super) kinds: BTreeMap<(u64, u64), bool>,
}

/// The server's material, made once.
pub(super) struct World {
    pub(super) adverts: Vec<Advert>,
    pub(super) states: Vec<Bytes>,
    pub(super) memory: Memory,
    pub(super) signatures: HashMap<([u8; 32], usize), [u8; 64]>,
    pub(super) scenes: Vec<Scene>,
}

impl World {
    /// What another client answers to the same share request.
    pub(super) fn peer(&mut self, place: usize, version: u8, request: &[u8]) -> Option<ShareReply> {
        let ask = Ask::Share(version % 2);
        let (_, reply) = self.memory.ask(place, &self.states[place], ask, request)?;
        Some(ShareReply::from_bytes(&reply).ok()?.1)
    }

    /// Another client's signature of whatever the server wants.
    pub(super) fn commit(&mut self, place: usize, header: Header, hash: [u8; 32]) -> [u8; 64] {
        if self.signatures.len() > MEMORY {
            self.signatures.clear();
        }
        let sign = || {
            let node = NODES[place];
            let message = Commit::signed(&Header { node, ..header }, &hash);
            keys::sign(&material::identity(place), &message).expect("keys")
        };
        *self.signatures.entry((hash, place)).or_insert_with(sign)
    }
}
