"""Authentic but malformed: what a holder of the keys could seal, engine and decoder against each other.

Tampering without keys is in test_golden.py. Here every tag and MAC is right, so only the strictness of the parsers refuses.
"""

from __future__ import annotations

import hmac
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aegis import Vault
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from reference import vault_decoder as decoder

from aegis_engine import errors, keys

KEY = bytes(range(32))
Edit = Callable[["Case"], None]


class Case:
    """A copy of a small vault, and its parts opened for change."""

    def __init__(self, folder: Path, stored: str) -> None:
        self.folder, self.stored = folder, stored
        self.vault = decoder.Vault(folder, key=KEY)
        self.record = self.vault.body.live[UUID(stored)]
        self.body = bytearray(self.vault.chain["body"])
        self.first_entry = 126 + 48 * len(self.vault.body.subjects)
        self.at = self.body.find(self.record.object.bytes, self.first_entry)
        self.meta: dict[str, Any] = {
            "name": "a",
            "media_type": "t/x",
            "created": self.record.created,
            "subject": "ann",
            "attrs": {"k": "v"},
        }

    def seal_keystore(self, parameters: bytes = b"") -> None:
        raw = bytearray(self.vault.envelope.raw[:252])
        struct.pack_into("<I", raw, 48, len(parameters))
        struct.pack_into("<Q", raw, 244, len(self.body) + 16)
        aad = bytes(raw) + parameters
        sealed = AESGCM(self.vault.chain["body key"]).encrypt(aad[232:244], bytes(self.body), aad)
        (self.folder / "keystore.akv").write_bytes(aad + sealed)

    def seal_object(self, meta: bytes, change: Callable[[bytearray], object] = len) -> None:
        """Metadata and header anew, with their own tag, MAC and place in the keystore; the chunk stays."""
        file = self.vault.file(self.record.object)
        old = file.read_bytes()
        names = decoder.Header.parse(old[:4096]).keys(self.vault.dek(self.record))
        sealed = AESGCM(names["meta"]).encrypt(bytes(12), meta, b"")
        raw = bytearray(old[:144]) + struct.pack("<I", len(sealed)) + bytes(12) + sealed
        raw += bytes(4064 - len(raw))
        change(raw)
        mac = hmac.digest(names["mac"], bytes(raw), "sha256")
        file.write_bytes(bytes(raw) + mac + old[4096:])
        at = self.body.find(self.record.header_mac)
        self.body[at : at + 32] = mac
        self.seal_keystore()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    vault = Vault.create(tmp_path / "v", KEY)
    stored = str(vault.store_bytes(b"hello", "a", subject="ann", attrs={"k": "v"}))
    vault.store_bytes(b"other", "b")
    vault.backup_keystore(tmp_path / "backup", keys.raw(b"r" * 32))
    vault.rotate()  # all of it in one base
    return Case(tmp_path / "v", stored)


def decodes(case: Case) -> bool:
    try:
        return decoder.Vault(case.folder, key=KEY).read(case.stored)[1] == b"hello"
    except decoder.Bad:
        return False


def opens(case: Case, tmp_path: Path) -> bool:
    copy = tmp_path / "copy"
    shutil.copytree(case.folder, copy)
    try:
        vault = Vault.open(copy, KEY)
        vault.stat(case.stored)
        return vault.open_object(case.stored).read() == b"hello"
    except errors.AegisError:
        return False


# -- the keystore body ---------------------------------------------------------------------------------------------------


def put(at: int, value: int) -> Edit:
    """A byte of the body."""

    def edit(case: Case) -> None:
        case.body[at] = value

    return edit


def entry(at: int, change: Callable[[int], int]) -> Edit:
    """A byte of the object's entry."""

    def edit(case: Case) -> None:
        case.body[case.at + at] = change(case.body[case.at + at])

    return edit


def name(text: bytes) -> Edit:
    def edit(case: Case) -> None:
        at = case.at + 174
        old = struct.pack("<H", 1) + b"a"
        assert case.body[at : at + 3] == old
        case.body[at : at + 3] = struct.pack("<H", len(text)) + text

    return edit


def label(text: bytes) -> Edit:
    def edit(case: Case) -> None:
        at = case.body.rfind(case.vault.body.copies[0]["label"].encode()) - 2
        case.body[at:] = struct.pack("<H", len(text)) + text + bytes(4)

    return edit


def heads(*names: bytes) -> Edit:
    def head(name: bytes, count: int, mac: bytes) -> bytes:
        return struct.pack("<H", len(name)) + name + struct.pack("<Q", count) + mac

    def edit(case: Case) -> None:
        """These heads before those that every vault has."""
        own = [head(name.encode(), *value) for name, value in case.vault.body.heads.items()]
        old = struct.pack("<I", len(own)) + b"".join(own)
        assert case.body.endswith(old)
        new = [*(head(name, 1, bytes(32)) for name in names), *own]
        case.body[-len(old) :] = struct.pack("<I", len(new)) + b"".join(new)

    return edit


def swap(case: Case) -> None:
    case.body[126:174], case.body[174:222] = case.body[174:222], case.body[126:174]


def twice(case: Case) -> None:
    struct.pack_into("<I", case.body, 122, len(case.vault.body.subjects) + 1)
    case.body[126:126] = case.body[126:174]


def unused(case: Case) -> None:
    struct.pack_into("<I", case.body, 122, len(case.vault.body.subjects) + 1)
    case.body[case.first_entry : case.first_entry] = b"\xff" * 16 + bytes(32)


def orphan(case: Case) -> None:
    at = case.body.find(case.record.subject, 126, case.first_entry)
    del case.body[at : at + 48]
    struct.pack_into("<I", case.body, 122, len(case.vault.body.subjects) - 1)


def trail(case: Case) -> None:
    case.body += b"\0"


def count(case: Case) -> None:
    struct.pack_into("<I", case.body, 122, 2**32 - 1)


def flip(value: int) -> int:
    return value ^ 1


BODIES: dict[str, tuple[Edit, bool]] = {
    "version 1": (put(0, 1), False),
    "version 3": (put(0, 3), False),
    "an end of the log before its last record": (put(113, 0xFF), False),
    "heads not sorted": (heads(b"b", b"a"), False),
    "a head twice": (heads(b"a", b"a"), False),
    "heads in order": (heads(b"a", b"b"), True),
    "a head of 1025 bytes": (heads(b"x" * 1025), False),
    "a head that is not UTF-8": (heads(b"\xff"), False),
    "governed 2": (put(33, 2), False),
    "a bundle that does not govern": (put(40, 1), False),
    "subjects not sorted": (swap, False),
    "a subject twice": (twice, False),
    "a subject nobody uses": (unused, True),
    "no key of the subject": (orphan, False),
    "more subjects than bytes": (count, False),
    "state 0": (entry(16, lambda _: 0), False),
    "state 3": (entry(16, lambda _: 3), False),
    "kind 2": (entry(17, lambda _: 2), False),
    "another key record": (entry(18, flip), False),
    "another length": (entry(158, flip), False),
    "a name of 1024 bytes": (name(b"x" * 1024), True),
    "a name of 1025 bytes": (name(b"x" * 1025), False),
    "a name that is not UTF-8": (name(b"\xff"), False),
    "a name with a surrogate": (name(b"\xed\xa0\x80"), False),
    "a label of 1025 bytes": (label(b"x" * 1025), False),
    "a label that is not UTF-8": (label(b"\xc3"), False),
    "a byte more": (trail, False),
}


@pytest.mark.parametrize("what", BODIES)
def test_engine_and_decoder_agree_on_authentic_keystores(case: Case, tmp_path: Path, what: str) -> None:
    edit, good = BODIES[what]
    edit(case)
    case.seal_keystore()
    assert (decodes(case), opens(case, tmp_path)) == (good, good)


# -- metadata and header ---------------------------------------------------------------------------------------------------


def cbor(value: Any) -> bytes:
    """`bytes` are CBOR already; a list is a map's pairs."""
    if isinstance(value, bytes):
        return value

    def head(major: int, n: int) -> bytes:
        if n < 24:
            return bytes([major << 5 | n])
        for code, size in ((24, 1), (25, 2), (26, 4)):
            if n < 1 << 8 * size:
                return bytes([major << 5 | code]) + n.to_bytes(size, "big")
        raise AssertionError(n)

    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    pairs = value if isinstance(value, list) else list(value.items())
    return head(5, len(pairs)) + b"".join(cbor(k) + cbor(v) for k, v in pairs)


def padded(plain: bytes) -> bytes:
    return plain + bytes(-len(plain) % 256)


def changed(**members: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda meta: padded(cbor({**meta, **members}))


def without(member: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda meta: padded(cbor({k: v for k, v in meta.items() if k != member}))


METADATA: dict[str, tuple[Callable[[dict[str, Any]], bytes], bool]] = {
    "as written": (changed(), True),
    "another order": (lambda meta: padded(cbor(dict(reversed(meta.items())))), True),
    "attributes not sorted": (changed(attrs={"z": "1", "a": "2"}), True),
    "a longer integer": (lambda meta: changed(created=b"\x1b" + meta["created"].to_bytes(8, "big"))(meta), True),
    "an unknown key": (changed(x="y"), False),
    "a key twice": (lambda meta: padded(cbor([*meta.items(), ("name", "z")])), False),
    "no attributes": (without("attrs"), False),
    "no media type": (without("media_type"), False),
    "a number as an attribute": (changed(attrs={"k": 1}), False),
    "a negative time": (changed(created=b"\x20"), False),
    "a time with a fraction": (changed(created=b"\xfb" + struct.pack(">d", 1.5)), False),
    "bytes as a name": (changed(name=b"\x41a"), False),
    "a name with a surrogate": (changed(name=b"\x63\xed\xa0\x80"), False),
    "a text longer than the map": (changed(name=b"\x7b" + b"\xff" * 8), False),
    "a thousand maps": (changed(name=b"\xa1\x61a" * 1000), False),
    "an array": (lambda meta: padded(b"\x85" + b"".join(map(cbor, meta.values()))), False),
    "nothing": (lambda _: b"", False),
    "256 zeros more": (lambda meta: padded(cbor(meta)) + bytes(256), False),
    "padding that is not zero": (lambda meta: padded(cbor(meta))[:-1] + b"\1", False),
}


@pytest.mark.parametrize("what", METADATA)
def test_engine_and_decoder_agree_on_authentic_metadata(case: Case, tmp_path: Path, what: str) -> None:
    encode, good = METADATA[what]
    case.seal_object(encode(case.meta))
    assert (decodes(case), opens(case, tmp_path)) == (good, good)


@pytest.mark.parametrize(
    ("at", "value"), [(8, 2), (10, 2), (11, 11), (11, 25), (12, 1), (16, 0), (136, 2), (150, 1), (4000, 1)]
)
def test_engine_and_decoder_refuse_authentic_headers_of_another_format(
    case: Case, tmp_path: Path, at: int, value: int
) -> None:
    # The MAC is right for keys that the changed context does not give: the parsers come first, the keys refuse the rest.
    case.seal_object(padded(cbor(case.meta)), lambda raw: raw.__setitem__(at, value if raw[at] != value else 1))
    assert (decodes(case), opens(case, tmp_path)) == (False, False)


# -- what nobody may write: section 7 --------------------------------------------------------------------------------------


LAX: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "a null subject": changed(subject=b"\xf6"),
    "an attribute twice": changed(attrs=[("k", "1"), ("k", "2")]),
    "a bignum": lambda meta: changed(created=b"\xc2\x44" + meta["created"].to_bytes(4, "big"))(meta),
    "a tag": changed(name=b"\xc1\x61a"),
    "an indefinite text": changed(name=b"\x7f\x61a\xff"),
    "an indefinite map": lambda meta: padded(b"\xbf" + cbor(meta)[1:] + b"\xff"),
    "bytes as a key": lambda meta: padded(
        cbor([(b"\x44name", "a"), *((k, v) for k, v in meta.items() if k != "name")])
    ),
    "no padding": cbor,
    "more than 3840 bytes": lambda meta: padded(cbor({**meta, "name": "n" * 3700})) + bytes(16),
    "another subject": changed(subject="bob"),
    "another time": lambda meta: changed(created=meta["created"] + 1)(meta),
    "rows that the record does not have": changed(attrs={"aegis.rows": "5e1f0ad0-6c9c-4611-8afe-bc6a4ce09b93"}),
}


@pytest.mark.parametrize("what", LAX)
def test_the_decoder_refuses_metadata_that_nobody_may_write(case: Case, tmp_path: Path, what: str) -> None:
    case.seal_object(LAX[what](case.meta))
    # The engine reads it today; when it no longer does, the list in the document becomes shorter.
    assert (decodes(case), opens(case, tmp_path)) == (False, True)


def test_the_decoder_refuses_parameters_of_a_key(case: Case, tmp_path: Path) -> None:
    case.seal_keystore(b"\0")
    assert (decodes(case), opens(case, tmp_path)) == (False, True)


# -- vault.json, which anybody can write -----------------------------------------------------------------------------------


def told(**members: object) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **members})


ABOUT: dict[str, tuple[Callable[[str], str], bool]] = {
    "another provider": (told(provider="kms"), True),
    "a lower epoch": (told(epoch=0), True),
    "destroyed null": (told(destroyed=None), True),
    "upper case": (lambda text: told(id=json.loads(text)["id"].upper())(text), True),
    "a higher epoch": (told(epoch=99), False),
    "epoch 1.0": (told(epoch=1.0), False),
    "epoch true": (told(epoch=True), False),
    "epoch -1": (told(epoch=-1), False),
    "version 1.0": (told(version=1.0), False),
    "version true": (told(version=True), False),
    "version 2": (told(version=2), False),
    "another program": (told(format="other"), False),
    "another vault": (told(id="00000000-0000-4000-8000-000000000000"), False),
    "no id": (told(id="none"), False),
    "a member more": (told(x=1), False),
    "destroyed": (told(destroyed=5), False),
    "destroyed as a text": (told(destroyed="5"), False),
    "a byte order mark": (lambda text: "\ufeff" + text, False),
    "text behind": (lambda text: text + "x", False),
    "65 KiB": (lambda text: text + " " * (65 << 10), False),
    "half": (lambda text: text[: len(text) // 2], False),
    "a list": (lambda _: "[]", False),
}


@pytest.mark.parametrize("what", ABOUT)
def test_engine_and_decoder_agree_on_vault_json(case: Case, tmp_path: Path, what: str) -> None:
    change, good = ABOUT[what]
    file = case.folder / "vault.json"
    file.write_text(change(file.read_text()))
    assert (decodes(case), opens(case, tmp_path)) == (good, good)


@pytest.mark.parametrize(
    ("at", "value", "missing"),
    [
        (0, 0, True),
        (8, 9, True),
        (16, 0, True),
        (32, 2, False),
        (32, 9, True),
        (34, 1, True),
        (36, 31, True),
        (99, 0, True),
    ],
)
def test_engine_and_decoder_agree_on_epoch_key(case: Case, tmp_path: Path, at: int, value: int, missing: bool) -> None:
    """A file that counts as missing leaves the word to `epoch.key.next`."""
    file = case.folder / "epoch.key"
    good = file.read_bytes()
    bad = bytearray(good.ljust(at + 1, b"\0"))
    bad[at] = value if at >= len(good) or bad[at] != value else value + 1
    file.write_bytes(bad)
    assert (decodes(case), opens(case, tmp_path)) == (False, False)
    shutil.rmtree(tmp_path / "copy")
    (case.folder / "epoch.key.next").write_bytes(good)
    assert (decodes(case), opens(case, tmp_path)) == (missing, missing)
