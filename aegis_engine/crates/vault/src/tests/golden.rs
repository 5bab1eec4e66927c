//! Version 1 never changes: the bytes of an object from fixed seeds.

use super::*;
use crate::keystore::Kind;
use crate::secret::Secret;
use crate::vault::hex;
use crate::writer::{ObjectWriter, Seed};

fn golden() -> (TempDir, Vec<u8>) {
    let (dir, vault) = vault();
    // The vault id is part of every key; fix it in a second handle on the same folder.
    let Ok(mut inner) = Arc::try_unwrap(vault.inner) else {
        panic!("one handle")
    };
    inner.id = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    let inner = Arc::new(inner);
    let seed = Seed {
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
    let mut writer = ObjectWriter::begin(&inner, meta, 12, Kind::Data, None, seed).unwrap();
    let data: Vec<u8> = (0..5000_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
    writer.append(&data).unwrap();
    let finished = writer.complete().unwrap();
    let bytes = fs::read(inner.layout.object_tmp(finished.id())).unwrap();
    (dir, bytes)
}

#[test]
fn an_object_from_fixed_seeds_has_the_frozen_bytes() {
    let (_dir, bytes) = golden();
    // `vectors/read_v1.py` reads the same file with another implementation.
    let frozen = include_bytes!("../../vectors/v1.enc");
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
