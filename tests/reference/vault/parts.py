"""What all readers of a vault's files share: the refusal, fields from the front, the primitives."""

from __future__ import annotations

import hmac
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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
