"""Desk: where the operator approves and revokes. It holds the operator's key, so it is never a part of the node."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from aegis_engine import Identity
from aegis_flower.approval.approvals import LIST
from aegis_flower.approval.bundle import FAB_MAX, Bundle, hash_of, read
from aegis_flower.approval.entry import Approval, Entry, is_hash
from aegis_flower.approval.newest import Newest, regular
from aegis_flower.approval.signed import MOST_BYTES, SignedList, digest, opened
from aegis_flower.errors import AppNotApproved, ApprovalsTampered, BadBundle
from aegis_flower.files import write_atomically

DAY: Final = 86_400
LONGEST: Final = 3650  # days
_KEPT: Final = 365 * DAY  # how long what has ended stays in the list
_FABS: Final = "fabs"


class Desk:
    """A folder of approvals and the key that signs it.

    Guarantees:
        - A change is on disk whole or not at all, whenever the process ends. Two processes never undo each other's change.
        - A list that somebody put back or exchanged is never signed again.

    Args:
        folder: of the approvals; made where it is missing.
        identity_file: the operator's, of ``aegis identity new``. What was signed last is remembered beside it.

    Raises:
        OSError, ValueError: the identity cannot be read.
    """

    def __init__(self, folder: Path, identity_file: Path) -> None:
        self.folder = Path(folder).absolute()
        self._identity = Identity.load(str(identity_file))
        self._newest = Newest(Path(identity_file).with_name(f"{Path(identity_file).name}.approvals"), many=True)

    def entries(self) -> list[Entry]:
        """What is and was allowed, newest last.

        Raises:
            ApprovalsTampered: the list is not the one signed last.
        """
        with self._newest.locked():
            return sorted(self._current().entries, key=lambda entry: entry.approval.serial)

    def approve(
        self, fab: bytes, *, mode: str, purpose: str, days: int, dataset: str | None = None, now: int | None = None
    ) -> Approval:
        """Allows an app, in place of an earlier approval for the same data and purpose; keeps its bundle for comparison.

        Raises:
            BadBundle: it cannot be unpacked safely.
            ValueError: mode, purpose, data set or days are none.
            ApprovalsTampered: the list is not the one signed last.
        """
        bundle = read(fab)
        if bundle.faults:
            raise BadBundle(f"the bundle {bundle.fab_hash} cannot be approved: {bundle.faults[0]}")
        if type(days) is not int or not 0 < days <= LONGEST:
            raise ValueError(f"days is {days!r:.40}; it must be a whole number from 1 to {LONGEST}")
        at = int(time.time()) if now is None else now
        # Made once before the list is read, so that a wrong value changes nothing.
        asked = Approval(bundle.fab_hash, dataset, mode, purpose, at + days * DAY, 1)

        def add(entries: dict[tuple[str, str | None, str], Entry], serial: int) -> None:
            entries[asked.use] = Entry(replace(asked, serial=serial), at)

        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / _FABS).is_symlink():
            raise ApprovalsTampered(
                f"{self.folder / _FABS} is a link; somebody would have this command write elsewhere"
            )
        write_atomically({self.folder / _FABS / f"{bundle.fab_hash}.fab": fab})
        signed = self._change(add, at)
        return next(e.approval for e in signed.entries if e.approval.use == asked.use)

    def revoke(
        self, fab_hash: str, *, dataset: str | None = None, purpose: str | None = None, now: int | None = None
    ) -> list[Approval]:
        """Takes approvals back: all of the hash, or those of one data set or purpose. Running tasks of them are stopped.

        Raises:
            AppNotApproved: there is none that counts; or the data set is covered by an approval for any.
            ApprovalsTampered: the list is not the one signed last.
        """
        at = int(time.time()) if now is None else now
        gone: list[Approval] = []

        def take(entries: dict[tuple[str, str | None, str], Entry], serial: int) -> None:
            of_app = [
                e
                for e in entries.values()
                if e.approval.fab_hash == fab_hash and purpose in (None, e.approval.purpose) and e.revoked is None
            ]
            chosen = [e for e in of_app if dataset in (None, e.approval.dataset)]
            if dataset is not None and any(e.approval.dataset is None for e in of_app):
                raise AppNotApproved(
                    f"{fab_hash} is approved for any data set, {dataset!r} among them: revoke it without --dataset, and approve "
                    "it again for those that may go on"
                )
            if not chosen:
                raise AppNotApproved(f"no approval of {fab_hash!r:.80} counts that is so; `aegis app list` shows them")
            for entry in chosen:
                entries[entry.approval.use] = replace(entry, revoked=at)
                gone.append(entry.approval)

        self._change(take, at)
        return gone

    def bundle(self, fab_hash: str) -> bytes:
        """The bundle kept of an approved app.

        Raises:
            BadBundle: it is not there, or not what the hash says.
        """
        return kept(self.folder, fab_hash)

    def before(self, bundle: Bundle) -> Bundle | None:
        """The version of the same app that was approved last, whatever became of it; None where there is none."""
        return earlier(self.folder, self.entries(), bundle)

    def _current(self) -> SignedList:
        file = self.folder / LIST
        known = self._newest.known()
        try:
            text = regular(file, MOST_BYTES)
        except FileNotFoundError:
            if any(seen.folder == str(self.folder) for seen in known.values()):
                raise ApprovalsTampered(
                    f"the list of approvals in {self.folder} is gone; restore it from a backup, or take its entry out of "
                    f"{self._newest.file} to begin a new one, which every node must then be told of"
                ) from None
            return SignedList(secrets.token_hex(16), 0, 0)
        current = opened(text, self._identity.public, str(file))
        self._newest.may_follow(current, digest(text), self.folder, known)
        return current

    def _change(self, change: Callable[[dict[tuple[str, str | None, str], Entry], int], None], at: int) -> SignedList:
        with self._newest.locked():
            current = self._current()
            entries = {e.approval.use: e for e in current.entries if not _forgotten(e, at)}
            change(entries, current.serial + 1)
            signed = replace(current, serial=current.serial + 1, issued=at, entries=tuple(entries.values()))
            text = signed.sign(self._identity)
            write_atomically({self.folder / LIST: text})
            self._newest.note(signed, digest(text), self.folder)
        return signed


def _forgotten(entry: Entry, now: int) -> bool:
    ended = entry.approval.expires if entry.revoked is None else min(entry.revoked, entry.approval.expires)
    return ended + _KEPT < now


def kept(folder: Path, fab_hash: str) -> bytes:
    """The bundle that a folder of approvals keeps of a hash; it is that bundle, whoever writes the folder.

    Raises:
        BadBundle: it is not there, or another.
    """
    if not is_hash(fab_hash):
        raise BadBundle(f"{fab_hash!r:.80} is no hash of a bundle: 64 lower-case hexadecimal digits")
    try:
        fab = regular(Path(folder) / _FABS / f"{fab_hash}.fab", FAB_MAX)
    except OSError as error:
        raise BadBundle(f"{folder} keeps no bundle of {fab_hash} ({error})") from None
    if hash_of(fab) != fab_hash:
        raise BadBundle(f"{Path(folder) / _FABS / fab_hash}.fab is not the bundle of that hash: somebody changed it")
    return fab


def listed(folder: Path, signer: bytes) -> list[Entry]:
    """What a folder's list has, newest last, for a reader without a memory: its signature is checked, not its age.

    Raises:
        ApprovalsTampered: it is not signed by `signer`.
        AppNotApproved: there is none.
    """
    file = Path(folder) / LIST
    try:
        text = regular(file, MOST_BYTES)
    except FileNotFoundError:
        raise AppNotApproved(f"there is no list of approvals in {folder}; `aegis app approve` begins one") from None
    return sorted(opened(text, signer, str(file)).entries, key=lambda entry: entry.approval.serial)


def earlier(folder: Path, entries: list[Entry], bundle: Bundle) -> Bundle | None:
    """The newest approved bundle of the same publisher and name, other than this one, that the folder keeps."""
    for entry in sorted(entries, key=lambda entry: -entry.approval.serial):
        if entry.approval.fab_hash == bundle.fab_hash:
            continue
        try:
            found = read(kept(folder, entry.approval.fab_hash))
        except BadBundle:
            continue
        if (found.publisher, found.name) == (bundle.publisher, bundle.name):
            return found
    return None
