//! The fixed header of an object file, version 1: 4096 bytes, little-endian.
//!
//! | off | len | field |
//! |---|---|---|
//! | 0 | 8 | magic `89 41 45 47 56 0D 0A 1A` |
//! | 8 | 2 | format version = 1 |
//! | 10 | 1 | suite: 1 = AES-256-GCM + HKDF-SHA-256 + commitment |
//! | 11 | 1 | `chunk_log2`, 12..=24 |
//! | 12 | 4 | must-understand flags = 0 |
//! | 16 | 16 | vault id |
//! | 32 | 16 | object id |
//! | 48 | 16 | key record id |
//! | 64 | 32 | salt |
//! | 96 | 32 | key commitment |
//! | 128 | 8 | plaintext length |
//! | 136 | 8 | chunk count = max(1, ceil(length / 2^`chunk_log2`)) |
//! | 144 | 4 | metadata ciphertext length, tag included, ≤ 3880 |
//! | 148 | 12 | zero |
//! | 160 | … | metadata ciphertext ‖ 16-byte tag, then zeros |
//! | 4064 | 32 | HMAC-SHA-256(mac key, bytes 0..4064) |

use uuid::Uuid;

use crate::error::{Result, VaultError};

/// High bit, name, CR LF, end of file: catches text-mode damage.
pub(crate) const MAGIC: [u8; 8] = [0x89, b'A', b'E', b'G', b'V', 0x0D, 0x0A, 0x1A];
/// Bytes before the first chunk.
pub(crate) const HEADER: usize = 4096;
/// Where the header MAC starts; what it covers ends.
pub(crate) const MAC_AT: usize = 4064;
/// The part of the header that goes into every derived key.
pub(crate) const CONTEXT: usize = 96;
/// Where the metadata ciphertext starts.
pub(crate) const META_AT: usize = 160;
/// Longest metadata ciphertext, tag included.
pub(crate) const META_MAX: usize = 3880;
/// AES-GCM tag (SP 800-38D §5.2.1.2).
pub(crate) const TAG: usize = 16;
/// Keeps an object under one key far below the limits of GCM (SP 800-38D §8.3).
pub(crate) const MAX_CHUNKS: u64 = 1 << 24;
/// Default chunk: 1 MiB.
pub(crate) const CHUNK_LOG2: u8 = 20;

/// A chunk as a read meets it.
pub(crate) struct Part {
    /// Its number.
    pub index: u64,
    /// Its plaintext bytes.
    pub len: usize,
    /// Where in it the read begins.
    pub from: usize,
}

/// Fields of a header, parsed and bounded but not yet authenticated.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub chunk_log2: u8,
    pub vault: Uuid,
    pub object: Uuid,
    pub key_record: Uuid,
    pub salt: [u8; 32],
    pub commitment: [u8; 32],
    pub length: u64,
    pub chunks: u64,
    pub meta: Vec<u8>,
}

impl Header {
    /// Plaintext bytes of a chunk that is not the last.
    pub fn chunk(&self) -> usize {
        1 << self.chunk_log2
    }

    /// Plaintext bytes of chunk `index`.
    pub fn chunk_len(&self, index: u64) -> usize {
        if index + 1 < self.chunks {
            return self.chunk();
        }
        // Bounded by the chunk size, which fits usize.
        usize::try_from(self.length - index * self.chunk() as u64).unwrap_or(0)
    }

    /// Gives `work` each chunk that `out`, which begins at `offset` of the plaintext, reaches into: the part of it, and the
    /// part of `out` that it fills.
    pub fn each_chunk(
        &self,
        mut offset: u64,
        mut out: &mut [u8],
        mut work: impl FnMut(Part, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let size = self.chunk() as u64;
        while !out.is_empty() {
            let index = offset / size;
            let len = self.chunk_len(index);
            // Below the chunk size, which fits usize.
            let from = usize::try_from(offset % size).unwrap_or(0);
            let take = (len - from).min(out.len());
            let (now, rest) = out.split_at_mut(take);
            work(Part { index, len, from }, now)?;
            offset += take as u64;
            out = rest;
        }
        Ok(())
    }

    /// Plaintext bytes of its largest chunk: what memory for any one of them needs.
    pub fn widest(&self) -> usize {
        self.chunk_len(0)
    }

    /// Where chunk `index` starts in the file.
    pub fn chunk_at(&self, index: u64) -> u64 {
        HEADER as u64 + index * (self.chunk() + TAG) as u64
    }

    /// The only size the file may have.
    pub fn file_len(&self) -> u64 {
        HEADER as u64 + self.length + TAG as u64 * self.chunks
    }

    /// Bytes 0..96, which every derived key depends on.
    pub fn context(&self) -> [u8; CONTEXT] {
        let mut out = [0; CONTEXT];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&1u16.to_le_bytes());
        out[10] = 1;
        out[11] = self.chunk_log2;
        out[16..32].copy_from_slice(self.vault.as_bytes());
        out[32..48].copy_from_slice(self.object.as_bytes());
        out[48..64].copy_from_slice(self.key_record.as_bytes());
        out[64..96].copy_from_slice(&self.salt);
        out
    }

    /// The 4064 bytes the MAC covers.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; MAC_AT];
        out[..CONTEXT].copy_from_slice(&self.context());
        out[96..128].copy_from_slice(&self.commitment);
        out[128..136].copy_from_slice(&self.length.to_le_bytes());
        out[136..144].copy_from_slice(&self.chunks.to_le_bytes());
        let meta = u32::try_from(self.meta.len()).unwrap_or(u32::MAX);
        out[144..148].copy_from_slice(&meta.to_le_bytes());
        out[META_AT..META_AT + self.meta.len()].copy_from_slice(&self.meta);
        out
    }

    /// Strict: every field in its range, every reserved byte zero. `object` is the id of the file name.
    pub fn decode(bytes: &[u8; HEADER], object: Uuid) -> Result<Self> {
        let bad = |reason| VaultError::HeaderTampered { object, reason };
        let unsupported = |detail: String| VaultError::UnsupportedFormat {
            what: format!("object {object}"),
            detail,
        };
        if bytes[..8] != MAGIC {
            return Err(bad("magic"));
        }
        let version = u16::from_le_bytes(field(bytes, 8));
        if version != 1 {
            return Err(unsupported(format!("version {version}")));
        }
        if bytes[10] != 1 {
            return Err(unsupported(format!("cipher suite {}", bytes[10])));
        }
        let chunk_log2 = bytes[11];
        if !(12..=24).contains(&chunk_log2) {
            return Err(bad("chunk size"));
        }
        let flags = u32::from_le_bytes(field(bytes, 12));
        if flags != 0 {
            return Err(unsupported(format!("flags {flags:#x}")));
        }
        let length = u64::from_le_bytes(field(bytes, 128));
        let chunks = u64::from_le_bytes(field(bytes, 136));
        if chunks > MAX_CHUNKS || chunks != length.div_ceil(1 << chunk_log2).max(1) {
            return Err(bad("chunk count"));
        }
        let meta = u32::from_le_bytes(field(bytes, 144)) as usize;
        if !(TAG..=META_MAX).contains(&meta) {
            return Err(bad("metadata length"));
        }
        if bytes[148..META_AT]
            .iter()
            .chain(&bytes[META_AT + meta..MAC_AT])
            .any(|b| *b != 0)
        {
            return Err(bad("padding"));
        }
        let header = Self {
            chunk_log2,
            vault: Uuid::from_bytes(field(bytes, 16)),
            object: Uuid::from_bytes(field(bytes, 32)),
            key_record: Uuid::from_bytes(field(bytes, 48)),
            salt: field(bytes, 64),
            commitment: field(bytes, 96),
            length,
            chunks,
            meta: bytes[META_AT..META_AT + meta].to_vec(),
        };
        if header.object != object {
            return Err(bad("object id"));
        }
        Ok(header)
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
