//! A small object in memory-backed storage, altered in every way, then read through the front door.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aegis_policy::{Action, Permit};
use uuid::Uuid;

use crate::format::header::{HEADER, TAG};
use crate::format::meta::Meta;
use crate::keys::provider::Provider;
use crate::object::reader::ObjectReader;
use crate::vault::Vault;

const CHUNK: usize = 4096;
const SEALED: usize = CHUNK + TAG;
/// Three chunks, the last not full.
const LENGTH: usize = 2 * CHUNK + 1000;
/// Mutations do not grow the file beyond this.
const FILE_MAX: usize = 64 << 10;
/// Numbers of the header that a reader computes with.
const FIELDS: [usize; 8] = [8, 10, 11, 12, 128, 136, 144, 4064];

struct Image {
    vault: Vault,
    object: Uuid,
    permit: Arc<Permit>,
    file: File,
    plain: Vec<u8>,
    original: Vec<u8>,
}

fn image() -> &'static Mutex<Image> {
    static IMAGE: OnceLock<Mutex<Image>> = OnceLock::new();
    IMAGE.get_or_init(|| Mutex::new(Image::new()))
}

pub(super) fn original() -> Vec<u8> {
    let image = image().lock().unwrap_or_else(PoisonError::into_inner);
    image.original.clone()
}

/// A folder of this process; those of processes that are gone are removed.
fn folder() -> PathBuf {
    let shared = Path::new("/dev/shm");
    let base = if shared.is_dir() {
        shared.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix("aegis-fuzz-"));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    base.join(format!("aegis-fuzz-{}", std::process::id()))
}

/// Removes the folder; nothing is read after that.
pub fn clean() {
    let image = image().lock().unwrap_or_else(PoisonError::into_inner);
    let _ = fs::remove_dir_all(image.vault.path());
}

impl Image {
    fn new() -> Self {
        let folder = folder();
        let key = Provider::raw(&[7; 32]).expect("32 bytes");
        let vault = Vault::create(&folder, &key).expect("a vault in memory");
        let plain: Vec<u8> = (0..LENGTH)
            .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
            .collect();
        let mut writer = vault.writer_chunked(Meta::named("n"), 12).expect("starts");
        writer.append(&plain).expect("appends");
        let object = writer.finish().expect("finishes");
        let permit = vault.owner_permit(object, Action::Read).expect("a permit");
        let path = vault.inner.paths.object(object);
        let original = fs::read(&path).expect("the object's file");
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("the object's file");
        Self {
            vault,
            object,
            permit: Arc::new(permit),
            file,
            plain,
            original,
        }
    }

    fn put(&self, bytes: &[u8]) {
        self.file.write_all_at(bytes, 0).expect("writes");
        self.file
            .set_len(bytes.len() as u64)
            .expect("sets the length");
    }

    fn open(&self) -> Option<ObjectReader> {
        self.vault.reader(&self.permit, self.object).ok()
    }

    /// Whether the file still has the object's chunk at its place.
    fn has_chunk(&self, bytes: &[u8], index: usize) -> bool {
        let at = HEADER + index * SEALED;
        let sealed = &self.original[at..self.original.len().min(at + SEALED)];
        bytes.get(at..at + sealed.len()) == Some(sealed)
    }

    /// Exactly the bytes that were stored, or an error and nothing; an error only where the file was altered.
    fn read(&self, reader: &ObjectReader, bytes: &[u8], offset: u64, len: usize, many: bool) {
        let mut out = vec![0xEE; len];
        let result = if many {
            reader.read_into(offset, &mut out, Some(2))
        } else {
            reader.read_at(offset, &mut out)
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(LENGTH);
        let expected = &self.plain[from..from.saturating_add(len).min(LENGTH)];
        let whole = expected.is_empty()
            || (from / CHUNK..=(from + expected.len() - 1) / CHUNK)
                .all(|index| self.has_chunk(bytes, index));
        match result {
            Ok(n) => assert!(whole && n == expected.len() && out[..n] == *expected),
            Err(error) => {
                assert!(!whole, "{error}");
                let given = &out[..expected.len()];
                assert!(given.iter().all(|byte| *byte == 0), "bytes beside an error");
            }
        }
    }
}

/// Bytes of the input, one after the other; zeros beyond its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }
}

fn mutate(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let (kind, at, argument) = (input.byte(), input.number(), input.number());
    let low = argument.to_le_bytes()[0];
    let within = at % bytes.len().max(1);
    match kind % 8 {
        0 => bytes
            .iter_mut()
            .skip(within)
            .take(1)
            .for_each(|byte| *byte ^= low),
        1 => bytes.truncate(at),
        2 => bytes.resize((bytes.len() + argument).min(FILE_MAX), low),
        // Chunks change places, also into and out of the header.
        3 | 4 => {
            let (from, to) = (HEADER + at % 4 * SEALED, HEADER + argument % 4 * SEALED);
            if from.max(to) + SEALED <= bytes.len() {
                let moved = bytes[from..from + SEALED].to_vec();
                bytes.copy_within(to..to + SEALED, from);
                if kind % 8 == 4 {
                    bytes[to..to + SEALED].copy_from_slice(&moved);
                }
            }
        }
        5 => {
            let field = FIELDS[at % FIELDS.len()];
            if let Some(place) = bytes.get_mut(field..field + 8) {
                let value = (argument as u64) << (u32::from(kind) / 8 * 2);
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        6 => {
            let to = (within + argument).min(bytes.len());
            bytes[within..to].fill(0);
        }
        _ => {
            let count = (argument % 64).min(bytes.len() - within);
            bytes.drain(within..within + count);
        }
    }
}

/// First byte: 255 and a whole file, or the number of mutations and whether they come after the object was opened.
pub fn reader(data: &[u8]) {
    let mut image = image().lock().unwrap_or_else(PoisonError::into_inner);
    let image = &mut *image;
    let mut input = Input(data);
    let first = input.byte();
    let (mut bytes, late) = if first == 0xFF {
        (std::mem::take(&mut input.0).to_vec(), false)
    } else {
        (image.original.clone(), first & 0x80 != 0)
    };
    if first != 0xFF {
        for _ in 0..first % 8 {
            mutate(&mut bytes, &mut input);
        }
    }
    bytes.truncate(FILE_MAX);
    let early = late.then(|| image.open().expect("an unaltered object opens"));
    let altered = bytes != image.original;
    if altered {
        image.put(&bytes);
    }
    let opened = early.or_else(|| image.open());
    let openable =
        bytes.len() == image.original.len() && bytes[..HEADER] == image.original[..HEADER];
    assert!(late || opened.is_some() == openable);
    let verified = image.vault.verify_with(image.object, Some(1), None);
    assert_eq!(verified.is_ok(), !altered);
    if let Some(reader) = opened {
        image.read(&reader, &bytes, 0, LENGTH, false);
        for _ in 0..8 {
            if input.0.is_empty() {
                break;
            }
            let (place, len) = (input.number(), input.number());
            let offset = if place >= 0xFF00 {
                u64::MAX - (place as u64 & 0xFF)
            } else {
                (place % (LENGTH + 100)) as u64
            };
            image.read(&reader, &bytes, offset, len % (3 * CHUNK), len >= 0xF000);
        }
    }
    if altered {
        image.put(&image.original);
    }
}
