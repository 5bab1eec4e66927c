"""Keystores of versions 1 and 2, their backups, and the epoch key beside them."""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from reference.vault.parts import KINDS, ZERO, Bad, Cursor, expand, extract, gcm_open, need

# -- the keystore ----------------------------------------------------------------------------------------------------


@dataclass
class Record:
    object: UUID
    kind: int
    key_record: UUID
    subject: bytes
    rows: UUID | None
    wrapped: bytes
    header_mac: bytes
    length: int
    created: int
    name: str


@dataclass
class Body:
    node: bytes
    bundle: bytes | None
    audit: tuple[int, bytes] = (0, b"")
    audit_place: tuple[int, int] = (0, 0)
    subjects: dict[bytes, bytes] = field(default_factory=dict)
    live: dict[UUID, Record] = field(default_factory=dict)
    shredded: dict[UUID, int] = field(default_factory=dict)
    copies: list[dict[str, Any]] = field(default_factory=list)
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, version: int) -> Body:
        c = Cursor(data, "keystore body")
        need(c.number(1) == version, "keystore body: version")
        node, governed, bundle = c.take(32), c.number(1), c.take(32)
        need(governed == 1 or (governed == 0 and not any(bundle)), "keystore body: bundle")
        body = cls(node, bundle if governed else None)
        body.sections(c, version)
        return body

    def change(self, data: bytes) -> None:
        """Section 6: the sections of a change, which adds and replaces."""
        new = Body(self.node, self.bundle)
        new.sections(Cursor(data, "change"), 2)
        need(not new.shredded, "change: it shreds")
        self.audit, self.audit_place = new.audit, new.audit_place
        self.subjects |= new.subjects
        self.live |= new.live
        self.live = dict(sorted(self.live.items(), key=lambda item: item[0].bytes))
        self.copies += new.copies
        self.heads |= new.heads

    def sections(self, c: Cursor, version: int) -> None:
        body = self
        body.audit = (c.number(8), c.take(32))
        if version == 2:
            body.audit_place = (c.number(8), c.number(8))
            need(body.audit_place[0] <= body.audit_place[1], "keystore body: place in the audit log")
        before = b""
        for _ in range(c.number(4)):
            subject = c.take(16)
            need(subject > before or not body.subjects, "keystore body: order of subjects")
            body.subjects[subject], before = c.take(32), subject
        before = None
        for _ in range(c.number(4)):
            key = c.take(16)
            need(before is None or key > before, "keystore body: order of objects")
            before, object_id = key, UUID(bytes=key)
            state = c.number(1)
            if state == 2:
                body.shredded[object_id] = c.number(8)
                continue
            need(state == 1, "keystore body: state")
            kind, record, subject, rows = c.number(1), c.id(), c.take(16), c.id()
            need(kind in (0, 1), "keystore body: kind")
            wrapped, mac, length, created = c.take(60), c.take(32), c.number(8), c.number(8)
            body.live[object_id] = Record(
                object_id, kind, record, subject, rows if rows.int else None, wrapped, mac, length, created, c.text()
            )
        for _ in range(c.number(4)):
            when, epoch, generation = c.number(8), c.number(8), c.number(8)
            body.copies.append({"when": when, "epoch": epoch, "generation": generation, "label": c.text()})
        name = None
        for _ in range(c.number(4) if version == 2 else 0):
            key = c.text()
            need(name is None or key.encode() > name.encode(), "keystore body: order of heads")
            name = key
            body.heads[key] = (c.number(8), c.take(32))
        c.end()


@dataclass
class Envelope:
    raw: bytes
    version: int
    kind: int
    vault: UUID
    epoch: int
    generation: int
    params: bytes

    @classmethod
    def parse(cls, raw: bytes, magic: bytes = b"AEGISAKV") -> Envelope:
        need(len(raw) >= 252 + 16 and raw[:8] == magic, "keystore: magic or length")
        version, kind, flags = struct.unpack_from("<HHI", raw, 8)
        need(version in (1, 2) and flags == 0, "keystore: version or flags")
        need(kind in KINDS, "keystore: provider kind")
        epoch, generation, params, zero = struct.unpack_from("<QQII", raw, 32)
        need(params <= 1024 and zero == 0 and len(raw) >= 252 + params + 16, "keystore: parameters")
        body, rest = struct.unpack_from("<Q", raw, 244)[0], len(raw) - 252 - params
        changes = version == 2 and magic == b"AEGISAKV"
        need(body >= 16 and (body == rest or (changes and body < rest)), "keystore: body length")
        return cls(raw, version, kind, UUID(bytes=raw[16:32]), epoch, generation, raw[252 : 252 + params])

    def chain(self, provider_key: bytes, epoch_secret: bytes) -> dict[str, bytes]:
        """Every value from the provider key to the body, each checked where the file can check it."""
        vault, raw = self.vault.bytes, self.raw
        check = expand(extract(vault, provider_key), b"aegis/v1/provider-check")
        need(hmac.compare_digest(check, raw[56:88]), "keystore: wrong key")
        root = expand(extract(vault, provider_key + epoch_secret), b"aegis/v1/root" + struct.pack("<Q", self.epoch))
        wrap, own = extract(raw[120:152], root), b"aegis/v%d/" % self.version
        need(hmac.compare_digest(expand(wrap, own + b"root-check"), raw[88:120]), "keystore: epoch secret")
        place = vault + struct.pack("<Q", self.epoch)
        wrap_key = expand(wrap, own + b"epoch-wrap")
        epoch_key = gcm_open(wrap_key, ZERO, place, raw[152:200], "keystore: epoch key")
        prk = extract(place, epoch_key)
        need(hmac.compare_digest(expand(prk, own + b"epoch-commit"), raw[200:232]), "keystore: commitment")
        body_key, at = expand(prk, own + b"keystore-body"), 252 + len(self.params)
        body = gcm_open(body_key, raw[232:244], raw[:at], raw[at : self.end], "keystore: body")
        return {
            "provider check": check,
            "root": root,
            "wrap key": wrap_key,
            "epoch key": epoch_key,
            "body key": body_key,
            "body": body,
            "epoch prk": prk,
        }

    @property
    def end(self) -> int:
        """Where the base ends and the changes start."""
        return 252 + len(self.params) + int(struct.unpack_from("<Q", self.raw, 244)[0])

    def changes(self, prk: bytes) -> tuple[list[bytes], bool]:
        """Section 5: the plaintexts behind the base, and whether the file ends in something that was not committed."""
        sealing, linking = expand(prk, b"aegis/v2/keystore-changes"), expand(prk, b"aegis/v2/keystore-link")
        place, link, rest = self.vault.bytes + struct.pack("<Q", self.epoch), bytes(32), self.raw[self.end :]
        found: list[bytes] = []
        while rest:
            if len(rest) < 48 or not any(rest):
                return found, True
            n, zero, generation = struct.unpack_from("<IIQ", rest)
            need(16 <= n <= (1 << 30) + 16 and zero == 0, "change: length")
            if len(rest) < 48 + n:
                return found, True
            key = expand(extract(rest[16:48], sealing), b"aegis/v2/change")
            try:
                plain = gcm_open(key, ZERO, place + rest[:48] + link, rest[48 : 48 + n], "change: altered")
                need(generation == self.generation + len(found) + 1, "change: generation")
            except Bad:
                if len(rest) == 48 + n:
                    return found, True
                raise
            found.append(plain)
            link, rest = extract(linking, link + rest[: 48 + n]), rest[48 + n :]
        return found, False


def provider_key(envelope: Envelope, key: bytes | None, passphrase: str | bytes | None) -> bytes:
    """The 32 bytes that open `envelope`, of kinds 1 and 2."""
    if envelope.kind == 1:
        need(key is not None and len(key) == 32, "a key of 32 bytes is needed")
        need(envelope.params == b"", "keystore: parameters of a key")
        return bytes(key or b"")
    need(envelope.kind == 2 and passphrase is not None, f"kind {KINDS[envelope.kind]} is needed")
    need(len(envelope.params) == 29 and envelope.params[0] == 1, "keystore: parameters of a passphrase")
    memory, passes, lanes = struct.unpack_from("<III", envelope.params, 1)
    need(1 <= lanes <= 16 and 1 <= passes <= 16 and 8 * lanes <= memory <= 1 << 20, "keystore: Argon2id cost")
    text = passphrase.encode() if isinstance(passphrase, str) else passphrase or b""
    salt = envelope.params[13:]
    return Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(text)


def epoch_secret(path: Path, envelope: Envelope) -> bytes | None:
    """The secret in `path` when it is of the keystore's epoch and vault."""
    raw = path.read_bytes() if path.exists() else b""
    if len(raw) < 40 or raw[:8] != b"AEGISEPK":
        return None
    epoch, vault, kind, zero, n = struct.unpack_from("<Q16sHHI", raw, 8)
    if vault != envelope.vault.bytes or kind not in KINDS or zero or n > 4096 or n != len(raw) - 40:
        return None
    if epoch != envelope.epoch:
        return None
    need(kind == envelope.kind, "epoch.key: provider kind")
    need(n == 32, "epoch.key: length")
    return raw[40:]


def open_backup(
    path: Path, *, key: bytes | None = None, passphrase: str | bytes | None = None
) -> tuple[Envelope, Body]:
    """A keystore backup: its epoch secret is zero."""
    envelope = Envelope.parse(Path(path).read_bytes(), b"AEGISAKB")
    chain = envelope.chain(provider_key(envelope, key, passphrase), bytes(32))
    return envelope, Body.parse(chain["body"], envelope.version)
