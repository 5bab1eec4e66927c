"""Book: the file of one lineage's ledger. Each line is an entry with the MAC of itself and of the line before; the newest is
committed in the vault's keystore, so that a file that was cut, edited or rolled back is found.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aegis_engine import Vault
from aegis_flower.errors import LedgerTampered

Entry = dict[str, Any]
UNIT = "record"
_OLD_DOMAIN = "aegis/v1/privacy-ledger"
_DOMAIN = "aegis/v2/privacy-ledger"
_EVENT = "privacy.reserve"


class Book:
    """The file of one lineage, and what earlier versions kept under names."""

    def __init__(self, vault: Vault, lineage: str, dataset: str, *, nameless: bool) -> None:
        self._vault, self.lineage, self._dataset, self._nameless = vault, lineage, dataset, nameless
        self._folder = Path(vault.path) / "privacy"
        self.path = self._folder / f"{lineage}.{UNIT}.jsonl"
        self._head = f"privacy/{lineage}"

    def entries(self) -> list[Entry]:
        """Those under names first."""
        entries = self._read(self.path.name, self._mac)
        continued = {e["name"]: e for e in entries if e["kind"] == "continue"}
        self._check_head(entries)
        old: list[Entry] = []
        names: list[str] = list(continued) or self._former()
        for name in names:
            known = continued.get(name)
            before = self._old(name, logged=known is None)
            if known is not None and (len(before) != known["entries"] or before[-1]["mac"] != known["last"]):
                raise self._rolled_back(len(before), known["entries"])
            old += before
        return old + entries

    def _check_head(self, entries: list[Entry]) -> None:
        head = self._vault.head(self._head)
        if head is not None and (len(entries) < head[0] or entries[head[0] - 1]["mac"] != head[1].hex()):
            raise self._rolled_back(len(entries), head[0])
        # The log has no secret, so its word counts only against granting.
        self._check_log(entries, self._vault.audit_find_last(_EVENT, "lineage", self.lineage))

    def _check_log(self, entries: list[Entry], last: dict[str, Any] | None) -> None:
        if last is None:
            return
        seen, mac = last.get("entries"), last.get("mac")
        known = isinstance(seen, int) and 1 <= seen <= len(entries) and entries[seen - 1]["mac"] == mac
        if not known:
            raise self._rolled_back(len(entries), seen)

    def _rolled_back(self, have: int, seen: Any) -> LedgerTampered:
        return LedgerTampered(
            f"privacy ledger of {self._dataset!r} holds {have} entries, but {seen} were recorded: the file was rolled back "
            "or replaced; restore it from the newest copy"
        )

    def _former(self) -> list[str]:
        """Names under which an earlier version kept entries of these people; of a lineage that this version made, none."""
        return [self._dataset] if self._nameless else self._vault.lineage_names(self.lineage)

    def _old(self, name: str, *, logged: bool = True) -> list[Entry]:
        """Entries under a name. `logged`: the log is all that knows how many there must be."""

        def mac(entry: Entry, previous: str) -> str:
            return self._vault.mac(_OLD_DOMAIN, f"{name}\n{previous}\n{body_of(entry)}".encode()).hex()

        file = f"{name}.{UNIT}.jsonl"
        # Compared with what the folder lists, never joined to a path: a name with a slash is in no folder.
        there = self._folder.is_dir() and any(path.name == file for path in self._folder.iterdir())
        entries = self._read(file, mac) if there else []
        if logged:
            # A charge of this version names a lineage as well, and may be of other people under the same name.
            of_name = (r for r in self._vault.audit_records(_EVENT) if r.get("dataset") == name and "lineage" not in r)
            self._check_log(entries, max(of_name, key=lambda record: int(record["seq"]), default=None))
        return entries

    def _read(self, name: str, mac: Any) -> list[Entry]:
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LedgerTampered(f"privacy ledger {name!r} cannot be read ({error.strerror})") from error
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LedgerTampered(f"privacy ledger {name!r} is no regular file; restore it from a copy")
            # What follows the last newline was torn by a crash before its fsync: nothing was trained on it.
            whole = file.read().rpartition(b"\n")[0]
        entries: list[Entry] = []
        previous = ""
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                entry = json.loads(line)
                good = entry["seq"] == number and entry["mac"] == mac(entry, previous) and line == line_of(entry)
            except (ValueError, KeyError, TypeError, RecursionError):
                good, entry = False, {}
            if not good:
                raise LedgerTampered(
                    f"privacy ledger {name!r}, line {number}: not what was written; restore the file from a copy"
                )
            entries.append(entry)
            previous = entry["mac"]
        return entries

    def _mac(self, entry: Entry, previous: str) -> str:
        return self._vault.mac(_DOMAIN, f"{self.lineage}\n{previous}\n{body_of(entry)}".encode()).hex()

    def append(self, kind: str, fields: Entry, entries: list[Entry]) -> None:
        """Writes an entry durably and commits it as the head. `entries` are all there are."""
        own = [e for e in entries if e.get("lineage") == self.lineage]
        if not own:
            for name in self._former():
                before = self._old(name)
                if before:
                    self._write("continue", {"name": name, "entries": len(before), "last": before[-1]["mac"]}, own)
        self._write(kind, fields, own)
        if kind == "reserve":
            entry = own[-1]
            self._vault.record_plugin(
                _EVENT,
                {
                    "dataset": self._dataset,
                    "lineage": self.lineage,
                    "entries": entry["seq"],
                    "mac": entry["mac"],
                    "reservation": entry["id"],
                    "run": entry["run"],
                    "round": entry["round"],
                },
            )

    def _write(self, kind: str, fields: Entry, own: list[Entry]) -> None:
        entry: Entry = {"v": 2, "seq": len(own) + 1, "kind": kind, "lineage": self.lineage, **fields}
        entry["mac"] = self._mac(entry, own[-1]["mac"] if own else "")
        fresh = not self.path.exists()
        with self._open(self.path) as file:
            file.seek(file.read().rfind(b"\n") + 1)
            file.truncate()
            file.write(line_of(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._vault.commit_head(self._head, entry["seq"], bytes.fromhex(entry["mac"]))
        own.append(entry)

    def _open(self, path: Path) -> Any:
        """A regular file of this folder, made where it is not there; never through a link."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerTampered(f"privacy ledger {path.name!r} cannot be opened ({error.strerror})") from error
        file = os.fdopen(descriptor, "r+b")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise LedgerTampered(f"privacy ledger {path.name!r} is no regular file; restore it from a copy")
        return file

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the file, among all processes."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.is_symlink():
            raise LedgerTampered("the vault's folder privacy is a link; restore it from a copy")
        with self._open(self.path.with_suffix(".lock")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def body_of(entry: Entry) -> str:
    """What an entry's MAC is over."""
    return json.dumps({k: v for k, v in entry.items() if k != "mac"}, sort_keys=True, separators=(",", ":"))


def line_of(entry: Entry) -> bytes:
    """An entry as the file has it."""
    return json.dumps(entry, sort_keys=True).encode()
