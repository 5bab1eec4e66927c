//! One chunk: AES-256-GCM under the object's content key, with its place and the end of the object in the nonce.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::error::{Result, VaultError};
use crate::format::header::TAG;
use crate::secret::Secret;

/// An AES-256-GCM key of which every nonce is used once. aws-lc clears its memory when it is dropped.
pub(crate) struct GcmKey(LessSafeKey);

impl GcmKey {
    pub fn new(key: &Secret<32>) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key.expose())
            .map_err(VaultError::crypto("key schedule"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals in place and returns the tag. The caller guarantees that the nonce is new under this key.
    pub fn seal(&self, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG]> {
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data)
            .map_err(VaultError::crypto("seal"))?;
        let mut out = [0; TAG];
        out.copy_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Opens `ciphertext` into `plain` (same length) in one pass; on failure `plain` is cleared and `None` returned.
    pub fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        plain: &mut [u8],
    ) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self
            .0
            .open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plain);
        if opened.is_err() {
            // aws-lc clears its output on failure; the promise is ours, so do not depend on it.
            plain.zeroize();
        }
        opened.ok()
    }
}

/// `00 00 00 ‖ u64 BE index ‖ last`: reorder, duplicate and truncation change it.
fn nonce(index: u64, last: bool) -> [u8; 12] {
    let mut out = [0; 12];
    out[3..11].copy_from_slice(&index.to_be_bytes());
    out[11] = u8::from(last);
    out
}

/// `u64 index ‖ u32 plaintext length ‖ last`, little-endian.
fn aad(index: u64, len: usize, last: bool) -> [u8; 13] {
    let mut out = [0; 13];
    out[..8].copy_from_slice(&index.to_le_bytes());
    out[8..12].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    out[12] = u8::from(last);
    out
}

/// Seals chunk `index` in place.
pub(crate) fn seal(key: &GcmKey, index: u64, last: bool, data: &mut [u8]) -> Result<[u8; TAG]> {
    key.seal(nonce(index, last), &aad(index, data.len(), last), data)
}

/// Opens chunk `index` of which `sealed` is the ciphertext and tag; `plain` has exactly the plaintext's length.
pub(crate) fn open(
    key: &GcmKey,
    index: u64,
    last: bool,
    sealed: &[u8],
    plain: &mut [u8],
) -> Option<()> {
    let (ciphertext, tag) = sealed.split_at_checked(plain.len())?;
    key.open(
        nonce(index, last),
        &aad(index, plain.len(), last),
        ciphertext,
        tag,
        plain,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SP 800-38D test case 16 (AES-256, 96-bit IV, AAD) through our own seal and open.
    #[test]
    fn nist_test_case_16() {
        let hex = |s: &str| {
            (0..s.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap())
                .collect::<Vec<_>>()
        };
        let key = Secret::from_slice(&hex(
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        ))
        .unwrap();
        let plain = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let key = GcmKey::new(&key).unwrap();
        let mut data = plain.clone();
        let tag = key.seal(nonce, &aad, &mut data).unwrap();
        assert_eq!(
            data,
            hex(
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
            )
        );
        assert_eq!(tag.to_vec(), hex("76fc6ece0f4e1768cddf8853bb2d551b"));
        let mut opened = vec![0; data.len()];
        key.open(nonce, &aad, &data, &tag, &mut opened).unwrap();
        assert_eq!(opened, plain);
    }

    #[test]
    fn a_failed_open_leaves_zeros() {
        let key = GcmKey::new(&Secret::random().unwrap()).unwrap();
        let mut sealed = vec![7; 100];
        let mut tag = seal(&key, 0, true, &mut sealed).unwrap();
        tag[0] ^= 1;
        sealed.extend_from_slice(&tag);
        let mut plain = vec![9; 100];
        assert!(open(&key, 0, true, &sealed, &mut plain).is_none());
        assert!(plain.iter().all(|b| *b == 0));
    }

    #[test]
    fn index_and_end_are_authenticated() {
        let key = GcmKey::new(&Secret::random().unwrap()).unwrap();
        let mut sealed = vec![7; 10];
        let tag = seal(&key, 3, false, &mut sealed).unwrap();
        sealed.extend_from_slice(&tag);
        let mut plain = [0; 10];
        assert!(open(&key, 3, false, &sealed, &mut plain).is_some());
        assert!(open(&key, 4, false, &sealed, &mut plain).is_none());
        assert!(open(&key, 3, true, &sealed, &mut plain).is_none());
    }
}
