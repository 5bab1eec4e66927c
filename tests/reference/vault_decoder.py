"""Reads a vault folder with `cryptography` alone: format version 1, keystores of versions 1 and 2.

Written from docs/ENCRYPTION.md, not from the engine.

    python vault_decoder.py VAULT --key-hex 00..1f | --passphrase TEXT     lists and checks every object
    python vault_decoder.py VAULT ... --vectors OBJECT                     the derivation chain, as in the document
    python vault_decoder.py --object FILE --dek-hex ..                     one object without its vault

Strict: whatever differs from the document raises `Bad` with the step that refused.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

ZERO = bytes(12)
KINDS = {1: "key", 2: "passphrase", 3: "pkcs11", 4: "kms"}
BASES = ("consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests")


class Bad(Exception):
    """What the document does not allow."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Bad(what)


def extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, ikm, "sha256")


def expand(prk: bytes, info: bytes) -> bytes:
    return hmac.digest(prk, info + b"\1", "sha256")


def gcm_open(key: bytes, nonce: bytes, aad: bytes, sealed: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Bad(what) from None


class Cursor:
    """Takes fields from the front; running out is an error."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.at, self.what = data, 0, what

    def take(self, n: int) -> bytes:
        need(self.at + n <= len(self.data), f"{self.what}: too short")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, n: int) -> int:
        return int.from_bytes(self.take(n), "little")

    def id(self) -> UUID:
        return UUID(bytes=self.take(16))

    def text(self) -> str:
        n = self.number(2)
        need(n <= 1024, f"{self.what}: text too long")
        try:
            return self.take(n).decode()
        except UnicodeDecodeError:
            raise Bad(f"{self.what}: text is not UTF-8") from None

    def end(self) -> None:
        need(self.at == len(self.data), f"{self.what}: bytes after the end")


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


# -- the vault -------------------------------------------------------------------------------------------------------


def whole(value: object) -> bool:
    """A u64 in JSON; `1.0` and `true` are none."""
    return type(value) is int and 0 <= value < 1 << 64


def about(path: Path) -> tuple[UUID, int]:
    """Id and highest epoch in `vault.json`."""
    raw = path.read_bytes()
    need(len(raw) <= 64 << 10, "vault.json: size")
    try:
        found = json.loads(raw.decode())
    except ValueError:
        raise Bad("vault.json: no JSON") from None
    need(isinstance(found, dict) and found.get("format") == "aegis-vault", "vault.json: format")
    need(whole(found.get("version")) and found["version"] == 1, "vault.json: version")
    destroyed = found.pop("destroyed", None)
    need(set(found) == {"format", "version", "id", "provider", "epoch"}, "vault.json: members")
    need(destroyed is None or whole(destroyed), "vault.json: destroyed")
    need(isinstance(found["provider"], str) and whole(found["epoch"]), "vault.json: provider or epoch")
    need(destroyed is None, "vault.json: the vault was destroyed")
    try:
        return UUID(str(found["id"])), found["epoch"]
    except ValueError:
        raise Bad("vault.json: id") from None


class Vault:
    """A vault under a key or a passphrase, opened without its journal, its logs or its lock."""

    def __init__(
        self,
        folder: Path,
        *,
        key: bytes | None = None,
        passphrase: str | bytes | None = None,
        log: bool = True,
    ) -> None:
        """Without `log` nothing is asked of the audit log: what somebody reads who would not ask."""
        self.folder = Path(folder)
        vault, reached = about(self.folder / "vault.json")
        self.envelope = Envelope.parse((self.folder / "keystore.akv").read_bytes())
        need(self.envelope.vault == vault, "keystore: of another vault")
        need(self.envelope.epoch >= reached, "keystore: rolled back")
        self.provider_key = provider_key(self.envelope, key, passphrase)
        secret = epoch_secret(self.folder / "epoch.key", self.envelope)
        secret = secret or epoch_secret(self.folder / "epoch.key.next", self.envelope)
        need(secret is not None, "epoch.key: no secret of the keystore's epoch")
        self.epoch_secret = secret or b""
        self.chain = self.envelope.chain(self.provider_key, self.epoch_secret)
        self.body = Body.parse(self.chain["body"], self.envelope.version)
        self.generation = self.envelope.generation
        self.torn = False
        if self.envelope.version == 2:
            changes, self.torn = self.envelope.changes(self.chain["epoch prk"])
            for change in changes:
                self.body.change(change)
            self.generation += len(changes)
        need(not log or self.proven() <= self.generation, "keystore: the audit log knows a later generation")

    def proven(self) -> int:
        """Section 11: the newest generation of the keystore that the audit log proves; 0 without one."""
        log = self.folder / "audit/000001.log"
        raw, at, newest = log.read_bytes() if log.exists() else b"", 64, 0
        key = expand(extract(b"aegis/v1/node", self.body.node), b"aegis/v2/keystore-record")
        while at + 56 <= len(raw):
            (n,) = struct.unpack_from("<I", raw, at)
            record, at = json.loads(raw[at + 56 : at + 56 + n]), at + 56 + n
            if record["event"] == "keystore" and "proof" in record:
                covered = struct.pack("<QQ", record["generation"], record["epoch"])
                if hmac.compare_digest(extract(key, covered).hex(), record["proof"]):
                    newest = max(newest, record["generation"])
        return newest

    @property
    def id(self) -> UUID:
        return self.envelope.vault

    def file(self, object_id: UUID) -> Path:
        return self.folder / "objects" / object_id.bytes[:1].hex() / f"{object_id}.enc"

    def dek(self, record: Record) -> bytes:
        subject_key = self.body.subjects.get(record.subject)
        need(subject_key is not None, "keystore body: subject key")
        aad = self.id.bytes + record.key_record.bytes + record.subject + record.object.bytes
        return gcm_open(subject_key or b"", record.wrapped[:12], aad, record.wrapped[12:], "keystore body: wrapped key")

    def read(self, object_id: UUID | str) -> tuple[dict[str, Any], bytes]:
        """Description and plaintext of a live object."""
        object_id = UUID(str(object_id))
        need(object_id not in self.body.shredded, "object: shredded")
        need(object_id in self.body.live, "object: unknown")
        record, path = self.body.live[object_id], self.file(object_id)
        need(path.exists(), "object: missing")
        header, meta, plain = open_object(path.read_bytes(), self.dek(record))
        need(header.object == object_id, "object: id")
        need(header.vault == self.id and header.key_record == record.key_record, "object: of another vault or record")
        need(header.length == record.length and meta["created"] == record.created, "object: not the one on record")
        need(hmac.compare_digest(header.raw[4064:], record.header_mac), "object: not the version on record")
        if meta.get("subject") is not None:
            need(record.subject == self.subject_id(meta["subject"]), "object: subject")
        need((meta["attrs"].get("aegis.rows") or None) == (str(record.rows) if record.rows else None), "object: rows")
        info = {
            "id": str(object_id),
            "name": record.name or meta["name"],
            "media_type": meta["media_type"],
            "subject": meta.get("subject"),
            "attrs": meta["attrs"],
            "created": record.created,
            "bytes": header.length,
            "chunks": header.chunks,
            "chunk_bytes": 1 << header.log2,
            "rows": str(record.rows) if record.rows else None,
        }
        return info, plain

    def list(self) -> list[dict[str, Any]]:
        """Every live object, governance rows included, by id."""
        return [self.read(one)[0] for one in self.body.live]

    def dataset(self, object_id: UUID | str) -> dict[str, Any]:
        """Layout, facts, classes and rows of a dataset."""
        record = self.body.live[UUID(str(object_id))]
        need(record.rows is not None and self.body.live[record.rows].kind == 1, "dataset: no governance rows")
        c = Cursor(self.read(record.rows or "")[1], "rows")
        need(c.take(8) == b"AEGISRW1" and c.id() == record.object, "rows: magic or data object")
        layout, facts, index = (c.take(c.number(8)) for _ in range(3))
        c.end()
        c = Cursor(index, "row index")
        need(c.take(8) == b"AEGISRI1", "row index: magic")
        n, rows = c.number(4), c.number(4)
        need(n <= 4096, "row index: classes")
        classes = []
        for _ in range(n):
            basis, bits, zero, day = struct.unpack("<BBHI", c.take(8))
            need(basis < len(BASES) and bits <= 3 and zero == 0 and (bits & 2 or day == 0), "row index: class")
            classes.append((BASES[basis], day if bits & 2 else None, bool(bits & 1)))
        class_of = [c.number(2) for _ in range(rows)]
        need(all(one < n for one in class_of), "row index: class of a row")
        subjects = [c.take(16) for _ in range(rows)]
        c.end()
        return {
            "layout": json.loads(layout),
            "facts": json.loads(facts),
            "classes": classes,
            "class_of": class_of,
            "subjects": subjects,
        }

    # -- keys of the node ----------------------------------------------------------------------------------------

    def subject_id(self, subject: str) -> bytes:
        key = expand(extract(b"aegis/v1/node", self.body.node), b"aegis/v1/subject-id")
        return extract(key, subject.encode())[:16]

    def derive(self, salt: bytes, label: bytes, domain: str) -> bytes:
        return expand(extract(salt, self.body.node), label + struct.pack("<Q", len(domain.encode())) + domain.encode())

    def mac(self, domain: str, data: bytes) -> bytes:
        return extract(self.derive(b"aegis/v1/node", b"aegis/v1/mac", domain), data)

    def proof(self, domain: str, data: bytes) -> bytes:
        info = b"aegis/v2/proof" + struct.pack("<Q", len(domain.encode())) + domain.encode()
        return extract(expand(extract(b"aegis/v1/node", self.body.node), info), data)

    def pseudonym(self, person: str) -> bytes:
        return self.mac("aegis/v1/pseudonym", person.encode())[:16]

    def open_blob(self, domain: str, aad: bytes, blob: bytes) -> bytes:
        need(len(blob) >= 49 and blob[0] == 1, "blob: version or length")
        return gcm_open(self.derive(blob[1:33], b"aegis/v1/blob", domain), ZERO, aad, blob[33:], "blob")

    # -- the document ----------------------------------------------------------------------------------------------

    def vectors(self, object_id: str) -> list[tuple[str, bytes]]:
        """The derivation chain from the provider key to the first chunk."""
        raw, record = self.envelope.raw, self.body.live[UUID(object_id)]
        data, dek = self.file(record.object).read_bytes(), self.dek(record)
        header = Header.parse(data[:4096])
        keys = header.keys(dek)
        at, n, nonce, aad = header.chunk(0)
        meta = gcm_open(keys["meta"], ZERO, b"", header.sealed_meta, "metadata")
        return [
            ("vault id", self.id.bytes),
            ("provider key", self.provider_key),
            ("provider check", self.chain["provider check"]),
            ("epoch", struct.pack("<Q", self.envelope.epoch)),
            ("epoch secret", self.epoch_secret),
            ("root", self.chain["root"]),
            ("keystore salt", raw[120:152]),
            ("root check", raw[88:120]),
            ("wrap key", self.chain["wrap key"]),
            ("wrapped epoch key", raw[152:200]),
            ("epoch key", self.chain["epoch key"]),
            ("epoch commitment", raw[200:232]),
            ("body key", self.chain["body key"]),
            ("body nonce", raw[232:244]),
            ("sha256 of body", hashlib.sha256(self.chain["body"]).digest()),
            ("node secret", self.body.node),
            ("key record id", record.key_record.bytes),
            ("subject id", record.subject),
            ("subject key", self.body.subjects[record.subject]),
            ("wrapped DEK", record.wrapped),
            ("DEK", dek),
            ("header 0..96", header.raw[:96]),
            ("content key", keys["content"]),
            ("metadata key", keys["meta"]),
            ("MAC key", keys["mac"]),
            ("commitment", keys["commit"]),
            ("sealed metadata", header.sealed_meta),
            ("CBOR metadata", meta.rstrip(b"\0")),
            ("header MAC", header.raw[4064:]),
            ("chunk 0 nonce", nonce),
            ("chunk 0 AAD", aad),
            ("chunk 0", data[at : at + n + 16]),
            ("plaintext", self.read(record.object)[1]),
        ]


def open_backup(
    path: Path, *, key: bytes | None = None, passphrase: str | bytes | None = None
) -> tuple[Envelope, Body]:
    """A keystore backup: its epoch secret is zero."""
    envelope = Envelope.parse(Path(path).read_bytes(), b"AEGISAKB")
    chain = envelope.chain(provider_key(envelope, key, passphrase), bytes(32))
    return envelope, Body.parse(chain["body"], envelope.version)


def permutation(seed: int, epoch: int, stream: int, n: int) -> list[int]:
    """Section 16: Fisher and Yates by AES-256 in counter mode."""
    key = hmac.digest(b"aegis/v1/shuffle", struct.pack("<QQQ", seed, epoch, stream), "sha256")
    words = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        bound = 2**64 // (i + 1) * (i + 1)
        while (word := int.from_bytes(words.update(bytes(8)), "little")) >= bound:
            pass
        j = word % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def order_of_records(
    blocks: list[list[int]], *, seed: int, epoch: int, window: int, shard: int = 0, shards: int = 1
) -> list[int]:
    """Section 16: the records of a shard in the order of an epoch."""
    mine = permutation(seed, epoch, 0, len(blocks))[shard::shards]
    out = []
    for group, at in enumerate(range(0, len(mine), window)):
        records = [record for block in mine[at : at + window] for record in blocks[block]]
        out += [records[k] for k in permutation(seed, epoch, 1 + group * shards + shard, len(records))]
    return out


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vault", nargs="?", type=Path)
    parser.add_argument("--key-hex")
    parser.add_argument("--passphrase")
    parser.add_argument("--vectors")
    parser.add_argument("--object", type=Path)
    parser.add_argument("--dek-hex")
    args = parser.parse_args()
    if args.object:
        _, meta, plain = open_object(args.object.read_bytes(), bytes.fromhex(args.dek_hex))
        say({**meta, "sha256": hashlib.sha256(plain).hexdigest()})
        return
    key = bytes.fromhex(args.key_hex) if args.key_hex else None
    vault = Vault(args.vault, key=key, passphrase=args.passphrase)
    if args.vectors:
        for name, value in vault.vectors(args.vectors):
            sys.stdout.write(f"{name} = {value.hex()}\n")
        return
    for one in vault.body.live:
        info, plain = vault.read(one)
        say({**info, "sha256": hashlib.sha256(plain).hexdigest()})


if __name__ == "__main__":
    main()
