"""An object file: header, metadata, chunks."""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from reference.vault.parts import ZERO, Bad, Cursor, expand, extract, gcm_open, need

# -- CBOR (RFC 8949): what metadata has ------------------------------------------------------------------------------


def cbor(cursor: Cursor, depth: int = 2) -> Any:
    need(depth >= 0, "metadata: depth")
    first = cursor.number(1)
    major, extra = first >> 5, first & 31
    need(extra < 28, "metadata: indefinite or reserved length")
    n = extra if extra < 24 else int.from_bytes(cursor.take(1 << (extra - 24)), "big")
    if major == 0:
        return n
    if major == 3:
        try:
            return cursor.take(n).decode()
        except UnicodeDecodeError:
            raise Bad("metadata: text is not UTF-8") from None
    need(major == 5, "metadata: unexpected type")
    out: dict[str, Any] = {}
    for _ in range(n):
        key = cbor(cursor, depth - 1)
        need(isinstance(key, str) and key not in out, "metadata: key")
        out[key] = cbor(cursor, depth - 1)
    return out


def metadata(plain: bytes) -> dict[str, Any]:
    need(len(plain) % 256 == 0 and len(plain) <= 3840, "metadata: padding")
    cursor = Cursor(plain, "metadata")
    found = cbor(cursor)
    rest = plain[cursor.at :]
    need(len(rest) < 256 and not any(rest), "metadata: padding")
    need(isinstance(found, dict), "metadata: not a map")
    types = {"name": str, "media_type": str, "created": int, "subject": str, "attrs": dict}
    need(set(found) <= set(types) and set(types) - {"subject"} <= set(found), "metadata: keys")
    need(all(isinstance(value, types[key]) for key, value in found.items()), "metadata: types")
    need(all(isinstance(value, str) for value in found["attrs"].values()), "metadata: attributes")
    return found


# -- the object file -------------------------------------------------------------------------------------------------


@dataclass
class Header:
    raw: bytes
    log2: int
    vault: UUID
    object: UUID
    key_record: UUID
    length: int
    chunks: int
    sealed_meta: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        need(len(raw) == 4096, "header: too short")
        need(raw[:8] == bytes.fromhex("89 41 45 47 56 0D 0A 1A"), "header: magic")
        version, suite, log2, flags = struct.unpack_from("<HBBI", raw, 8)
        need(version == 1, f"header: version {version}")
        need(suite == 1, f"header: suite {suite}")
        need(12 <= log2 <= 24, "header: chunk size")
        need(flags == 0, "header: flags")
        length, chunks, meta = struct.unpack_from("<QQI", raw, 128)
        need(chunks == max(1, -(-length // (1 << log2))), "header: chunks")
        need(chunks <= 1 << 24, "header: chunks")
        need(16 <= meta <= 3880, "header: metadata length")
        need(not any(raw[148:160]) and not any(raw[160 + meta : 4064]), "header: padding")
        ids = [UUID(bytes=raw[at : at + 16]) for at in (16, 32, 48)]
        return cls(raw, log2, *ids, length, chunks, raw[160 : 160 + meta])

    def keys(self, dek: bytes) -> dict[str, bytes]:
        prk = extract(self.raw[64:96], dek)
        labels = ("content", "meta", "mac", "commit")
        return {label: expand(prk, b"aegis/v1/" + label.encode() + self.raw[:96]) for label in labels}

    def chunk(self, index: int) -> tuple[int, int, bytes, bytes]:
        """(offset, plaintext length, nonce, AAD)."""
        last = index == self.chunks - 1
        n = self.length - (index << self.log2) if last else 1 << self.log2
        nonce = bytes(3) + index.to_bytes(8, "big") + bytes([last])
        return 4096 + index * ((1 << self.log2) + 16), n, nonce, struct.pack("<QIB", index, n, last)


def open_object(data: bytes, dek: bytes) -> tuple[Header, dict[str, Any], bytes]:
    """Header, metadata and plaintext of a whole object file."""
    header = Header.parse(data[:4096])
    keys = header.keys(dek)
    need(hmac.compare_digest(keys["commit"], header.raw[96:128]), "object: commitment")
    need(hmac.compare_digest(extract(keys["mac"], header.raw[:4064]), header.raw[4064:]), "object: header MAC")
    need(len(data) == 4096 + header.length + 16 * header.chunks, "object: size")
    meta = metadata(gcm_open(keys["meta"], ZERO, b"", header.sealed_meta, "object: metadata"))
    plain = []
    for index in range(header.chunks):
        at, n, nonce, aad = header.chunk(index)
        plain.append(gcm_open(keys["content"], nonce, aad, data[at : at + n + 16], f"object: chunk {index}"))
    return header, meta, b"".join(plain)
