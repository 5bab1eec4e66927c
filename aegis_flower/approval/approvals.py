"""Approvals: what a node asks before a byte of an app runs, and while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aegis_flower.approval.entry import Approval, Entry
from aegis_flower.approval.newest import Newest, Seen, regular
from aegis_flower.approval.signed import MOST_BYTES, SignedList, digest, opened
from aegis_flower.errors import AppNotApproved, ApprovalsTampered, NodeError

log = logging.getLogger("aegis")
LIST: Final = "approvals"  # the file in the operator's folder
_AHEAD: Final = 86_400  # seconds that the operator's clock may be ahead of the node's
_SETTLED_NS: Final = 2_000_000_000  # a file changed more lately than this may change again without showing it


class Approvals:
    """What the operator allows to run on this node.

    Guarantees:
        - `find` gives an approval only where the list is signed by `signer`, is not older than one this node has read, and
          allows this hash for these data and this purpose now. Whatever is missing, damaged or unreadable refuses.
        - Whoever writes `folder` without the operator's key can make the node refuse, and nothing else.

    Assumes:
        - `newest` and the node's clock are not in that party's hands. On a node that has read no list yet, an old list passes
          for the newest.

    Args:
        folder: that ``aegis app approve --folder`` writes.
        signer: the operator's verification key, 32 bytes (``aegis identity show``).
        newest: a file of the node's own, outside `folder`, that remembers the newest list.

    Raises:
        NodeError: `signer` is no key, or `newest` lies in `folder`.
    """

    def __init__(self, folder: Path, signer: bytes, newest: Path) -> None:
        if not isinstance(signer, bytes) or len(signer) != 32:  # noqa: PLR2004 - an Ed25519 key
            raise NodeError("the signer of approvals is no key; `aegis identity show` prints it: 64 hexadecimal digits")
        self.folder, self.signer = Path(folder), signer
        if Path(newest).resolve().is_relative_to(self.folder.resolve()):
            raise NodeError(
                f"{newest} lies in the folder of approvals: whoever can put an old list back there could put back what "
                "remembers the newest, too; keep it in the node's own folder"
            )
        self._newest = Newest(Path(newest))
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, ...], SignedList] | None = None
        self._last: dict[str, Seen] = {}

    def find(self, fab_hash: str, dataset: str, purpose: str, now: float) -> Approval:
        """The approval by which an app may run. An entry for the data set goes before one for any of the node's.

        Args:
            fab_hash: SHA-256 of the bundle's bytes, 64 lower-case hexadecimal digits.
            dataset: the data set that it would use.
            purpose: what for.
            now: seconds since 1970.

        Raises:
            AppNotApproved: nothing allows it; says why. To the server goes the code alone.
            ApprovalsTampered: the same, and somebody writes to the folder who is not the operator.
        """
        entries = [e for e in self._current(now).entries if e.approval.fab_hash == fab_hash]
        shown = f"the app {fab_hash!r:.80}"
        if not entries:
            raise AppNotApproved(f"{shown} is not approved; `aegis inbox` shows it, `aegis app approve` allows it")
        of_purpose = [e for e in entries if e.approval.purpose == purpose]
        if not of_purpose:
            known = ", ".join(sorted({e.approval.purpose for e in entries}))
            raise AppNotApproved(f"{shown} is approved for {known}, not for the purpose {purpose!r:.200}")
        own = [e for e in of_purpose if e.approval.dataset == dataset]
        found = own or [e for e in of_purpose if e.approval.dataset is None]
        if not found:
            known = ", ".join(sorted(str(e.approval.dataset) for e in of_purpose))
            raise AppNotApproved(f"{shown} is approved for the data set {known}, not for {dataset!r:.200}")
        if (why := _ended(found[0], now)) is not None:
            raise AppNotApproved(
                f"{shown}: its approval for {purpose!r:.200} {why}; `aegis app approve` allows it again"
            )
        return found[0].approval

    def still(self, approval: Approval, now: float | None = None) -> bool:
        """Whether an approval given before still counts. Costs one `stat` while the list stays as it is.

        Args:
            approval: what `find` gave.
            now: seconds since 1970; None takes the clock.
        """
        at = time.time() if now is None else now
        try:
            current = self._current(at)
        except AppNotApproved as error:
            log.warning("aegis: an approval counts no more: %s", error)
            return False
        for entry in current.entries:
            if entry.approval.use == approval.use:
                return entry.approval.mode == approval.mode and _ended(entry, at) is None
        return False

    def watch(self, approval: Approval) -> Callable[[], bool]:
        """`still` of one approval, for a loop that knows nothing of lists."""
        return lambda: self.still(approval)

    def _current(self, now: float) -> SignedList:
        with self._lock:
            current = self._loaded()
        if current.issued > now + _AHEAD:
            raise AppNotApproved(
                f"the list of approvals was issued {current.issued - now:.0f} s in the future; check the clock of this node"
            )
        return current

    def _loaded(self) -> SignedList:
        file = self.folder / LIST
        try:
            before = _mark(file)
            if self._read is not None and before == self._read[0]:
                return self._read[1]
            self._read = None
            text = regular(file, MOST_BYTES)
            current = opened(text, self.signer, str(file))
            sha256 = digest(text)
            if self._last:  # also where the file that remembers was taken away meanwhile
                self._newest.may_follow(current, sha256, self.folder, self._last)
            self._newest.take(current, sha256, self.folder)
        except FileNotFoundError:
            raise AppNotApproved(
                f"there is no list of approvals in {self.folder}: no app is approved; `aegis app approve` begins one, and a list "
                "that was there must be restored"
            ) from None
        except ApprovalsTampered:
            raise
        except OSError as error:
            raise AppNotApproved(f"the list of approvals in {self.folder} cannot be read: {error}") from None
        self._last = {current.name: Seen(current.serial, sha256, str(self.folder))}
        if time.time_ns() - max(before[2], before[3]) > _SETTLED_NS and _mark(file) == before:
            self._read = before, current
        return current


def _mark(file: Path) -> tuple[int, ...]:
    """What changes when a file does."""
    found = file.lstat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _ended(entry: Entry, now: float) -> str | None:
    """Why an entry does not count; None where it does."""
    if entry.revoked is not None:
        return "was revoked"
    return None if entry.counts(now) else "has expired"
