"""Newest: which list was read last, kept where whoever writes the list's folder cannot write. Nobody goes back behind it."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aegis_flower.approval.entry import is_count, is_hash
from aegis_flower.approval.signed import SignedList
from aegis_flower.errors import ApprovalsTampered
from aegis_flower.files import write_atomically

_WAIT: Final = 30.0  # seconds for another process that signs
_MOST: Final = 1 << 20


@dataclass(frozen=True)
class Seen:
    """What is remembered of a list.

    Attributes:
        serial: of the newest that was read or signed.
        sha256: of its file.
        folder: where it was.
    """

    serial: int
    sha256: str
    folder: str


class Newest:
    """The newest lists that this node, or this operator, knows: one small file.

    Args:
        file: where they are remembered; a lock file lies beside it.
        many: whether there may be several lists: an operator has one for each folder, a node has one.
    """

    def __init__(self, file: Path, *, many: bool = False) -> None:
        self.file, self._many = file, many

    def known(self) -> dict[str, Seen]:
        """What is remembered, by the name of the list.

        Raises:
            ApprovalsTampered: the file is damaged. What it said is lost, so an older list could pass for the newest.
        """
        try:
            text = regular(self.file, _MOST)
        except FileNotFoundError:
            return {}
        try:
            said: Any = json.loads(text)
            found = {str(name): Seen(**seen) for name, seen in said.items()}
            if all(is_count(s.serial, 1) and is_hash(s.sha256) and isinstance(s.folder, str) for s in found.values()):
                return found
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
        raise ApprovalsTampered(
            f"{self.file} is damaged: it remembers the newest list of approvals; make sure that the list is the operator's "
            "current one, then delete it"
        )

    def take(self, one: SignedList, sha256: str, folder: Path) -> None:
        """Remembers a list that was read or signed, if it may follow what is known.

        Raises:
            ApprovalsTampered: it is older than what is known, another of the same serial, or another list altogether.
        """
        with self.locked():
            self.note(one, sha256, folder)

    def note(self, one: SignedList, sha256: str, folder: Path) -> None:
        """`take`, where the lock is held already."""
        known = self.known()
        if self.may_follow(one, sha256, folder, known):
            known[one.name] = Seen(one.serial, sha256, str(folder))
            text = json.dumps({name: vars(seen) for name, seen in sorted(known.items())}, indent=1)
            write_atomically({self.file: text.encode()})

    def may_follow(self, one: SignedList, sha256: str, folder: Path, known: dict[str, Seen]) -> bool:
        """Whether it is newer than what is known; False where it is the same.

        Raises:
            ApprovalsTampered: as for `take`.
        """
        last = known.get(one.name)
        if last is None:
            if known and not self._many:
                raise ApprovalsTampered(
                    f"the list of approvals in {folder} is {one.name[:8]}…, this node has followed {next(iter(known))[:8]}…: "
                    f"the operator's list was put aside; restore it. If the operator began a new one, delete {self.file}"
                )
            return True
        if one.serial < last.serial:
            raise ApprovalsTampered(
                f"the list of approvals in {folder} has serial {one.serial}, and {last.serial} was read before: an older list "
                "was put back; restore the operator's current one, and find out who writes to that folder"
            )
        if one.serial == last.serial and sha256 != last.sha256:
            raise ApprovalsTampered(
                f"there are two different lists of approvals of serial {one.serial}; the operator must sign once more, by any "
                "`aegis app approve` or `revoke`"
            )
        return one.serial > last.serial

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock against other processes. Not to be entered twice by one.

        Raises:
            TimeoutError: another process keeps it.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        name = self.file.with_name(f"{self.file.name}.lock")
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + _WAIT
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise TimeoutError(f"another process holds {name}; try again when it has finished") from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(lock)


def regular(file: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes; no link is followed and no pipe is waited for.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is something else, or larger.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{file} is no regular file")
        text = opened.read(most + 1)
    if len(text) > most:
        raise OSError(f"{file} has more than {most} bytes")
    return text
