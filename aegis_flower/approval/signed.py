"""Signed: the operator's list of approvals, whole, in one file with one signature.

```text
aegis-approvals 1
list 3f…                       which list this is: 32 hex digits, drawn when it was begun
serial 7                       grows with every change; nobody who has read it goes back
issued 1795000000              seconds since 1970
signer 8f…                     the operator's identity (Ed25519), 64 hex digits
{"app":…}                      one entry a line, sorted by what it is for
signature 5a…                  128 hex digits, over all bytes before this line, in the domain "approvals/v1"
```

One signature covers the whole, so that no entry can be left out, put back or moved. What an attacker can still do is to put an
older list back: the serial, kept where they cannot write (`newest`), finds that.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from aegis_engine import Identity, signature_holds
from aegis_flower.approval.entry import Entry, is_count
from aegis_flower.errors import ApprovalsTampered

DOMAIN: Final = "approvals/v1"
MOST_ENTRIES: Final = 10_000
MOST_BYTES: Final = 8 << 20  # longest entries of the most that there may be would be more; such a list is not written
_HEAD: Final = re.compile(
    r"aegis-approvals 1\nlist ([0-9a-f]{32})\nserial (\d{1,16})\nissued (\d{1,16})\nsigner ([0-9a-f]{64})\n", re.ASCII
)
_TAIL: Final = re.compile(r"signature ([0-9a-f]{128})\n", re.ASCII)


@dataclass(frozen=True)
class SignedList:
    """What an operator allows, as it was signed.

    Attributes:
        name: which list, 32 hexadecimal digits.
        serial: how often it was signed.
        issued: seconds since 1970 when it was.
        entries: what is and was allowed, one for each use, sorted by it.
    """

    name: str
    serial: int
    issued: int
    entries: tuple[Entry, ...] = ()

    def covered(self, signer: bytes) -> bytes:
        """The bytes that the signature covers."""
        head = (
            f"aegis-approvals 1\nlist {self.name}\nserial {self.serial}\nissued {self.issued}\nsigner {signer.hex()}\n"
        )
        lines = "".join(f"{entry.to_line()}\n" for entry in sorted(self.entries, key=_order))
        return (head + lines).encode("ascii")

    def sign(self, identity: Identity) -> bytes:
        """The file's bytes.

        Raises:
            ValueError: the list is too long; says what to do.
        """
        whole = self.covered(identity.public)
        if len(self.entries) > MOST_ENTRIES or len(whole) > MOST_BYTES - 1024:
            raise ValueError(
                f"the list would have {len(self.entries)} entries in {len(whole)} bytes; {MOST_ENTRIES} entries and "
                f"{MOST_BYTES} bytes is the most: begin another folder for further apps"
            )
        return whole + f"signature {identity.sign(DOMAIN, whole).hex()}\n".encode("ascii")


def _order(entry: Entry) -> tuple[str, bool, str, str]:
    app, dataset, purpose = entry.approval.use
    return app, dataset is not None, dataset or "", purpose


def digest(text: bytes) -> str:
    """SHA-256 of the file, in hexadecimal: what is remembered of a list beside its serial."""
    return hashlib.sha256(text).hexdigest()


def opened(text: bytes, signer: bytes, place: str) -> SignedList:
    """Reads a file that `signer` must have signed. Nothing of it is believed before that.

    Args:
        text: the file's bytes.
        signer: the operator's verification key, 32 bytes.
        place: what errors call the file.

    Raises:
        ApprovalsTampered: it is no such list, of another signer, or was changed after it was signed.
    """
    again = "restore the operator's current list, and find out who writes to that folder"
    at = text.rfind(b"signature ")
    covered, tail = text[: max(at, 0)], text[max(at, 0) :]
    found = _TAIL.fullmatch(tail.decode("ascii", "replace"))
    head = _HEAD.match(covered[:256].decode("ascii", "replace"))
    if len(text) > MOST_BYTES or found is None or head is None:
        raise ApprovalsTampered(f"{place} is no signed list of approvals; {again}")
    if head[4] != signer.hex():
        raise ApprovalsTampered(
            f"{place} is signed by {head[4]}, this node pins {signer.hex()}; ask the operator which of the two is right"
        )
    if not signature_holds(signer, DOMAIN, covered, bytes.fromhex(found[1])):
        raise ApprovalsTampered(f"{place} was changed after it was signed; {again}")
    try:
        entries = tuple(Entry.of_line(line) for line in covered[head.end() :].decode("ascii").splitlines())
        whole = SignedList(head[1], int(head[2]), int(head[3]), entries)
        uses = [entry.approval.use for entry in entries]
        if not is_count(whole.serial, 1) or not is_count(whole.issued) or len(set(uses)) != len(uses):
            raise ValueError("numbers out of bounds, or two entries of one use")
        if len(entries) > MOST_ENTRIES or whole.covered(signer) != covered:
            raise ValueError("another spelling than its own")
    except ValueError as error:
        raise ApprovalsTampered(f"{place} was signed by another version of AEGIS, or by no AEGIS ({error})") from None
    return whole
