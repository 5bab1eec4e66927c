"""Inbox: runs that wait for the operator, as the node saw them. A server can fill it no further than its bounds."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from aegis_flower.approval.bundle import FAB_MAX, hash_of
from aegis_flower.approval.entry import is_count, is_hash
from aegis_flower.approval.newest import Newest, regular
from aegis_flower.errors import BadBundle
from aegis_flower.files import write_atomically

log = logging.getLogger("aegis")
MOST_RUNS: Final = 200
MOST_BYTES: Final = 100 << 20  # of bundles
_CONFIG_MAX: Final = 64 << 10
_NOTE_MAX: Final = 256 << 10
_IDS: Final = 2**64
_OLD: Final = 30 * 86_400  # seconds; a run that has waited longer makes room where there is none


@dataclass(frozen=True)
class Waiting:
    """A run that waits.

    Attributes:
        run_id: Flower's.
        fab_hash: of its app.
        when: seconds since 1970 when the node met it first.
        config: what the run asks: Flower's run config; None where it was too large to be kept.
    """

    run_id: int
    fab_hash: str
    when: int
    config: dict[str, str | int | float | bool] | None


class Inbox:
    """A folder of runs that wait.

    Guarantees:
        - It never holds more than `MOST_RUNS` runs and `MOST_BYTES` bytes of bundles, whatever a server sends. What came first
          stays for 30 days; what finds no room is not recorded, and is refused like everything that is not approved.
        - To ask twice is to ask once.

    Args:
        folder: of the node's own; the operator reads it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._locks = Newest(self.folder / "inbox")

    def ask(self, run_id: int, fab_hash: str, fab: bytes, run_config: Mapping[str, Any]) -> bool:
        """Records a run that waits. Whether it is in the inbox now: not where there is no room.

        Raises:
            BadBundle: `fab` is not the bundle of that hash, or larger than a bundle may be.
            OSError: the folder cannot be written.
        """
        if type(run_id) is not int or not 0 <= run_id < _IDS:
            raise BadBundle(f"{run_id!r:.40} is no id of a run")
        if not is_hash(fab_hash) or len(fab) > FAB_MAX or hash_of(fab) != fab_hash:
            raise BadBundle(f"the bundle of run {run_id} is not the one of its hash, {fab_hash!r:.80}")
        note = self.folder / f"{run_id}-{fab_hash}.json"
        with self._locks.locked():
            if note.exists():
                return True
            if len(self._notes()) >= MOST_RUNS:
                self._take_away(one for one in self._notes() if one.stat().st_mtime < time.time() - _OLD)
            notes = self._notes()
            target = self.folder / f"{fab_hash}.fab"
            size = 0 if target.exists() else len(fab)
            held = sum(file.stat().st_size for file in self.folder.glob("*.fab"))
            if len(notes) >= MOST_RUNS or held + size > MOST_BYTES:
                log.warning(
                    "aegis: run %d waits, and the inbox %s is full; `aegis inbox drop` makes room", run_id, self.folder
                )
                return False
            one = Waiting(run_id, fab_hash, int(time.time()), _kept(run_config))
            if size:
                write_atomically({target: fab})
            write_atomically({note: json.dumps(asdict(one)).encode()})
        return True

    def waiting(self) -> list[Waiting]:
        """The runs that wait, oldest first. Files that are none of ours are left out."""
        found = []
        for file in self._notes():
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                said = json.loads(regular(file, _NOTE_MAX))
                one = Waiting(**said)
                if is_hash(one.fab_hash) and is_count(one.when) and file.name == f"{one.run_id}-{one.fab_hash}.json":
                    found.append(
                        Waiting(one.run_id, one.fab_hash, one.when, None if one.config is None else dict(one.config))
                    )
        return sorted(found, key=lambda one: (one.when, one.run_id))

    def bundle(self, fab_hash: str) -> bytes:
        """The bundle of a run that waits.

        Raises:
            BadBundle: it is not there, or another.
        """
        if not is_hash(fab_hash):
            raise BadBundle(f"{fab_hash!r:.80} is no hash of a bundle: 64 lower-case hexadecimal digits")
        try:
            fab = regular(self.folder / f"{fab_hash}.fab", FAB_MAX)
        except OSError as error:
            raise BadBundle(f"{self.folder} has no bundle of {fab_hash} ({error})") from None
        if hash_of(fab) != fab_hash:
            raise BadBundle(f"{self.folder / fab_hash}.fab is not the bundle of that hash")
        return fab

    def drop(self, run_id: int | None = None) -> int:
        """Forgets a run, or all; gives their number. A bundle goes with its last run."""
        with self._locks.locked():
            return self._take_away(f for f in self._notes() if run_id is None or f.name.startswith(f"{run_id}-"))

    def decided(self, fab_hash: str) -> int:
        """Forgets the runs of an app that was decided on; gives their number. One that still waits asks again."""
        with self._locks.locked():
            return self._take_away(file for file in self._notes() if file.stem.partition("-")[2] == fab_hash)

    def _take_away(self, notes: Iterable[Path]) -> int:
        gone = list(notes)
        for file in gone:
            file.unlink(missing_ok=True)
        used = {file.stem.partition("-")[2] for file in self._notes()}
        for fab in self.folder.glob("*.fab"):
            if fab.stem not in used:
                fab.unlink(missing_ok=True)
        return len(gone)

    def _notes(self) -> list[Path]:
        def named() -> Iterator[Path]:
            for file in self.folder.glob("*-*.json"):
                run, _, app = file.stem.partition("-")
                if run.isascii() and run.isdecimal() and is_hash(app):
                    yield file

        return sorted(named())


def _kept(run_config: Mapping[str, Any]) -> dict[str, str | int | float | bool] | None:
    found = {str(k): v if isinstance(v, (bool, int, float)) else str(v) for k, v in run_config.items()}
    return found if len(json.dumps(found)) <= _CONFIG_MAX else None
