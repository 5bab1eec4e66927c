"""The folder of a vault, opened without its journal, its logs or its lock."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

from reference.vault.keystore import Body, Envelope, Record, epoch_secret, provider_key
from reference.vault.objects import Header, open_object
from reference.vault.parts import BASES, ZERO, Bad, Cursor, expand, extract, gcm_open, need


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
