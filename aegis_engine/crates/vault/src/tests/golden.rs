//! Version 1 never changes: the bytes of an object from fixed seeds.

use super::*;
use crate::format::keystore::Kind;
use crate::object::draft::ObjectRandomness;
use crate::object::writer::ObjectWriter;
use crate::secret::Secret;
use crate::vault::{Inner, hex};

fn begin(log2: u8) -> (TempDir, Arc<Inner>, ObjectWriter) {
    let (dir, vault) = vault();
    // The vault id is part of every key; fix it in a second handle on the same folder.
    let Ok(mut inner) = Arc::try_unwrap(vault.inner) else {
        panic!("one handle")
    };
    inner.id = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    let inner = Arc::new(inner);
    let seed = ObjectRandomness {
        object: Uuid::from_u128(0x0102_0304_0506_4708_890a_0b0c_0d0e_0f10),
        key_record: Uuid::from_u128(0x1112_1314_1516_4718_991a_1b1c_1d1e_1f20),
        salt: [0x5a; 32],
        dek: Secret::from_slice(&[0xd1; 32]).unwrap(),
        created: 1_700_000_000,
    };
    let meta = Meta {
        name: "golden.bin".into(),
        media_type: "application/octet-stream".into(),
        subject: Some("subject-1".into()),
        attrs: [("k".to_owned(), "v".to_owned())].into(),
    };
    let writer = ObjectWriter::begin(&inner, meta, log2, Kind::Data, None, seed).unwrap();
    (dir, inner, writer)
}

fn complete(inner: &Inner, writer: ObjectWriter) -> Vec<u8> {
    let finished = writer.complete().unwrap();
    fs::read(inner.paths.object_tmp(finished.id())).unwrap()
}

fn golden() -> (TempDir, Vec<u8>) {
    let (dir, inner, mut writer) = begin(12);
    let data: Vec<u8> = (0..5000_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
    writer.append(&data).unwrap();
    let bytes = complete(&inner, writer);
    (dir, bytes)
}

#[test]
fn every_way_of_writing_and_any_number_of_threads_gives_the_same_bytes() {
    let chunk = 4096;
    for len in [
        0,
        1,
        chunk - 1,
        chunk,
        chunk + 1,
        2 * chunk - 1,
        2 * chunk,
        2 * chunk + 1,
        37 * chunk + 11,
    ] {
        let data = noise(len);
        let (_dir, inner, mut writer) = begin(12);
        writer.append(&data).unwrap();
        let expected = complete(&inner, writer);
        assert_eq!(expected.len(), 4096 + len + 16 * len.div_ceil(chunk).max(1));
        let source = tempfile::NamedTempFile::new().unwrap();
        fs::write(source.path(), &data).unwrap();
        for threads in [Some(1), Some(2), Some(4), Some(9), None] {
            let (_dir, inner, mut writer) = begin(12);
            let file = fs::File::open(source.path()).unwrap();
            writer
                .fill_from_file(&file, source.path(), len as u64, threads, None)
                .unwrap();
            assert_eq!(
                complete(&inner, writer),
                expected,
                "file, {len} bytes, {threads:?}"
            );
            // A stream that gives odd pieces.
            let (_dir, inner, mut writer) = begin(12);
            let (mut left, mut step) = (&data[..], 0);
            let mut read = |out: &mut [u8]| {
                step = step % 777 + 1;
                let n = step.min(out.len()).min(left.len());
                out[..n].copy_from_slice(&left[..n]);
                left = &left[n..];
                Ok(n)
            };
            writer.fill_from_stream(&mut read, threads, None).unwrap();
            assert_eq!(
                complete(&inner, writer),
                expected,
                "stream, {len} bytes, {threads:?}"
            );
        }
    }
}

#[test]
fn an_object_from_fixed_seeds_has_the_frozen_bytes() {
    let (_dir, bytes) = golden();
    // `tests/reference/vault_decoder.py` reads the same file with another implementation.
    let frozen = include_bytes!("../../../../../tests/vectors/vault/v1.enc");
    assert_eq!(bytes.len(), 4096 + 5000 + 2 * 16);
    let context = "89414547560d0a1a0100010c00000000\
                   00112233445566778899aabbccddeeff\
                   0102030405064708890a0b0c0d0e0f10\
                   1112131415164718991a1b1c1d1e1f20";
    assert_eq!(hex(&bytes[..64]), context);
    assert_eq!(bytes[64..96], [0x5a; 32]);
    assert_eq!(
        bytes[128..148],
        [
            0x88, 0x13, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0
        ]
    );
    let differs = bytes.iter().zip(frozen).position(|(a, b)| a != b);
    assert_eq!((differs, bytes.len()), (None, frozen.len()));
}
