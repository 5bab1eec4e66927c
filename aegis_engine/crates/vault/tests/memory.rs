//! After a vault is closed, no key of it and no byte of its content is left in the memory of the process. Reads its own
//! memory through `/proc/self/mem`: a process of its own, so that no other test writes there.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, mpsc};
use std::thread;

use aegis_policy::Action;
use aegis_vault::fuzzing::{self, MASK};
use aegis_vault::{Meta, Provider, StoreOptions, Vault};
use zeroize::{Zeroize, Zeroizing};

type Masked = Vec<(&'static str, [u8; 32])>;

/// What is looked for is only ever there masked.
const MARKER: [u8; 32] = [
    0x5C, 0x13, 0xE8, 0x77, 0x02, 0xB9, 0x41, 0xDE, 0x96, 0x2A, 0x6F, 0xC4, 0x38, 0x8D, 0xF1, 0x04,
    0xAB, 0x59, 0x70, 0x1E, 0xC7, 0x33, 0x9A, 0x65, 0x0F, 0xD2, 0x4B, 0xE4, 0x81, 0x16, 0x7A, 0xBD,
];
const KEY: [u8; 32] = [
    0x91, 0x2D, 0x44, 0xF8, 0x6B, 0x07, 0xCE, 0x53, 0xA0, 0x1F, 0xD9, 0x72, 0x3C, 0xE5, 0x88, 0x4D,
    0x16, 0xBA, 0x61, 0x9F, 0x25, 0xF3, 0x0C, 0xD7, 0x7E, 0x48, 0xB1, 0x32, 0xEC, 0x5A, 0x83, 0x09,
];

fn unmask(out: &mut [u8], masked: &[u8; 32]) {
    for (out, byte) in out.iter_mut().zip(masked.iter().cycle()) {
        *out = byte ^ black_box(MASK);
    }
}

/// Where a half of a needle lies in memory that can be written to: keys, heap, stacks. Halves, since an allocator writes into
/// what was given back.
fn search(needles: &Masked) -> Vec<String> {
    const STEP: usize = 1 << 20;
    let memory = File::open("/proc/self/mem").expect("own memory");
    let maps = fs::read_to_string("/proc/self/maps").expect("own mappings");
    let mut window = vec![0; STEP + 15];
    let mut found = Vec::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').expect("a range");
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').expect("a range");
        let place = |text| u64::from_str_radix(text, 16).expect("an address");
        let (from, to) = (place(from), place(to));
        let mut at = from;
        while at < to {
            let len = usize::try_from(to - at)
                .unwrap_or(usize::MAX)
                .min(window.len());
            // A page that was never touched, or went away since.
            let Ok(n) = memory.read_at(&mut window[..len], at) else {
                break;
            };
            for byte in &mut window {
                *byte ^= MASK;
            }
            for (name, needle) in needles {
                let hits = window[..n].windows(16).enumerate();
                let half = |bytes: &[u8]| bytes == &needle[..16] || bytes == &needle[16..];
                for (offset, _) in hits.filter(|(_, bytes)| half(bytes)) {
                    let mapping = rest.split_whitespace().nth(4).unwrap_or("anonymous");
                    found.push(format!("{name} at {:#x} in {mapping}", at + offset as u64));
                }
            }
            window.fill(0);
            at += STEP as u64;
        }
    }
    found
}

/// Stores and reads in every way; gives the needles, and what was found while the vault was open.
#[inline(never)]
fn use_a_vault() -> (Masked, Vec<String>) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut key = Zeroizing::new([0; 32]);
    unmask(&mut key[..], &KEY);
    let provider = Provider::raw(&key[..]).expect("32 bytes");
    let vault = Vault::create(&dir.path().join("v"), &provider).expect("creates");
    let mut plain = Zeroizing::new(vec![0; 3 << 20]);
    unmask(&mut plain, &MARKER);
    let id = vault
        .store_bytes(&plain, Meta::named("bytes"))
        .expect("stores");
    let source = dir.path().join("source");
    fs::write(&source, &plain).expect("writes");
    let file = vault.store_file(&source, Meta::named("file"), StoreOptions::default());
    let file = file.expect("stores");
    let small = vault
        .store_bytes(&plain[..1000], Meta::named("small"))
        .expect("stores");
    plain.zeroize();
    let mut needles: Masked = vec![("content", MARKER), ("vault key", KEY)];
    let mut open = Vec::new();
    for id in [id, file, small] {
        let permit = Arc::new(vault.owner_permit(id, Action::Read).expect("a permit"));
        let reader = vault.reader(&permit, id).expect("opens");
        let mut out = Zeroizing::new(vec![0; usize::try_from(reader.len()).expect("fits")]);
        reader.read_into(0, &mut out, Some(2)).expect("reads");
        reader.read_at(77, &mut out[..100]).expect("reads");
        vault.verify(id).expect("verifies");
        needles.extend(fuzzing::secrets(&vault, id).expect("keys"));
        open = search(&needles);
    }
    let again = vault.reencrypt(small, None).expect("re-encrypts");
    needles.extend(fuzzing::secrets(&vault, again).expect("keys"));
    vault.shred(file, None).expect("shreds");
    needles.extend(fuzzing::secrets(&vault, id).expect("keys"));
    needles.sort_unstable();
    needles.dedup();
    (needles, open)
}

fn main() {
    let (send, results) = mpsc::channel();
    let (end, wait) = mpsc::channel::<()>();
    // On a stack that nobody else uses, and that stays until the search is done.
    let user = thread::spawn(move || {
        send.send(use_a_vault()).expect("somebody waits");
        wait.recv().expect("the end of the search");
    });
    let (needles, open) = results.recv().expect("the vault was used");
    for name in [
        "content",
        "node secret",
        "subject key",
        "content key",
        "vault key",
    ] {
        let seen = open.iter().any(|found| found.starts_with(name));
        assert!(
            seen,
            "the search does not see the {name} of an open vault: {open:?}"
        );
    }
    let left = search(&needles);
    assert!(left.is_empty(), "left in memory: {left:#?}");
    println!(
        "memory after close: {} keys and contents, none left",
        needles.len()
    );
    end.send(()).expect("the thread waits");
    user.join().expect("the thread ends");
}
