"""Read an object file of version 1 with nothing but its DEK: an independent check of header.rs and chunk.rs.

python read_v1.py v1.enc d1d1...d1      (needs `cryptography`; prints metadata and the SHA-256 of the plaintext)
"""

import hashlib
import hmac
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def expand(prk: bytes, info: bytes) -> bytes:
    """RFC 5869 section 2.3 for 32 bytes."""
    return hmac.digest(prk, info + b"\x01", "sha256")


def read(data: bytes, dek: bytes) -> tuple[bytes, bytes]:
    """Padded CBOR metadata and plaintext; raises when anything differs from the format."""
    header = data[:4096]
    assert header[:8] == b"\x89AEGV\r\n\x1a" and header[8:11] == b"\x01\x00\x01" and header[12:16] == bytes(4)
    size = 1 << header[11]
    length, chunks = int.from_bytes(header[128:136], "little"), int.from_bytes(header[136:144], "little")
    meta = int.from_bytes(header[144:148], "little")
    assert chunks == max(1, -(-length // size)) and len(data) == 4096 + length + 16 * chunks
    assert not any(header[148:160]) and not any(header[160 + meta : 4064])
    prk = hmac.digest(header[64:96], dek, "sha256")
    key = {name: expand(prk, b"aegis/v1/" + name + header[:96]) for name in (b"content", b"meta", b"mac", b"commit")}
    assert hmac.compare_digest(key[b"commit"], header[96:128])
    assert hmac.compare_digest(hmac.digest(key[b"mac"], header[:4064], "sha256"), header[4064:])
    plain, at = b"", 4096
    for index in range(chunks):
        last = index + 1 == chunks
        n = length - index * size if last else size
        nonce = bytes(3) + index.to_bytes(8, "big") + bytes([last])
        aad = index.to_bytes(8, "little") + n.to_bytes(4, "little") + bytes([last])
        plain += AESGCM(key[b"content"]).decrypt(nonce, data[at : at + n + 16], aad)
        at += n + 16
    return AESGCM(key[b"meta"]).decrypt(bytes(12), header[160 : 160 + meta], b""), plain


if __name__ == "__main__":
    metadata, plaintext = read(open(sys.argv[1], "rb").read(), bytes.fromhex(sys.argv[2]))
    print(metadata.rstrip(b"\0"))
    print(len(plaintext), hashlib.sha256(plaintext).hexdigest())
