"""The journal: one line of JSON for each permit, release and refusal, and the counts that the health endpoint shows.

Permits and releases are read from the vault's audit log, which has them before they take effect; nothing of an app is asked. A
line has fields of a fixed list, and of text only names that the operator or the steward gave: no row, no key, no words of an app.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aegis_flower.files import write_atomically

_FILE_HEADER, _FRAME_HEADER = 64, 56  # aegis_engine/crates/audit/src/lib.rs has the format
_LONGEST: Final = 1 << 20
_FIELDS: Final = (
    *(
        "seq",
        "decision",
        "run",
        "round",
        "action",
        "object",
        "permit",
        "release",
        "app_hash",
        "rows_allowed",
        "subjects",
    ),
    *("dp", "epsilon_micro_total", "secure_aggregation", "weight", "row_set"),
)
_TEXT_MOST: Final = 128
_LOOK_BACK: Final = 1 << 18  # bytes of the log
_LINE: Final = {"authorize": "permit", "release": "release"}


class Tail:
    """What an audit log gets from now on, or since the place that `kept` remembers: after a crash no record is left out."""

    def __init__(self, folder: Path, kept: Path) -> None:
        self._file, self._kept = folder / "000001.log", kept
        self._origin = ""  # whose log it is: a place in another vault's says nothing
        try:
            with self._file.open("rb") as file:
                self._origin = file.read(_FILE_HEADER).hex()
            origin, at = kept.read_text().split(":")
            self._at = int(at)
            known = origin == self._origin and _FILE_HEADER <= self._at <= self._file.stat().st_size
        except (OSError, ValueError):
            known = False
        if not known:
            self._at = _FILE_HEADER
            for _ in self.new():
                pass
            self.remember()

    def remember(self) -> None:
        """Remembers how far the records were written on."""
        write_atomically({self._kept: f"{self._origin}:{self._at}".encode()})

    def new(self) -> Iterator[dict[str, Any]]:
        """The records since the last call, in order. Verifying the chain is `aegis audit verify`'s work."""
        try:
            file = self._file.open("rb")
        except FileNotFoundError:
            return
        with file:
            while True:
                file.seek(self._at)
                header = file.read(_FRAME_HEADER)
                if len(header) < _FRAME_HEADER:
                    return
                length, seq = struct.unpack_from("<IQ", header)
                payload = file.read(length) if length <= _LONGEST else b""
                if not length or len(payload) < length:
                    return  # still being written
                self._at += _FRAME_HEADER + length
                yield {**json.loads(payload), "seq": seq}


class Journal:
    """Lines of JSON in a file or on standard error, and what they come to. May be used by several threads.

    Attributes:
        counts: by kind, and by what it was: ``("refusal", "AEG-N019")``.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock, self._following = threading.Lock(), threading.Lock()
        self._tail: Tail | None = None
        self._told: set[tuple[str, int, str | None]] = set()
        self.counts: Counter[tuple[str, str]] = Counter()

    def follow(self, audit: Path, kept: Path) -> None:
        """Writes lines for what the audit log in this folder gets from now on; `kept` remembers how far."""
        self._tail = Tail(audit, kept)
        self._told = self._last()

    def audit(self) -> None:
        """Writes the lines of what came since the last call."""
        if self._tail is None:
            return
        with self._following:
            self._audit(self._tail)

    def _audit(self, tail: Tail) -> None:
        found = list(tail.new())
        for record in found:
            kind = _LINE.get(str(record.get("event")))
            if kind is None:
                continue
            self.counts[kind, "allow" if record.get("decision") == "allow" else "deny"] += 1
            if (kind, record["seq"], record.get("permit")) in self._told:
                continue
            self._write(kind, {key: record[key] for key in _FIELDS if _may(record.get(key))})
        if found:
            tail.remember()

    def _last(self) -> set[tuple[str, int, str | None]]:
        """The permits and releases of the last lines: a process that was killed had written some that it did not remember."""
        found: set[tuple[str, int, str | None]] = set()
        with contextlib.suppress(OSError):
            if self._file is not None:
                with self._file.open("rb") as file:
                    file.seek(max(0, self._file.stat().st_size - _LOOK_BACK))
                    for line in file.read().splitlines():
                        with contextlib.suppress(ValueError, KeyError, TypeError):
                            said = json.loads(line)
                            found.add((said["what"], said["seq"], said.get("permit")))
        return found

    def refusal(self, code: str, step: str, run: int, round_: int | None = None, app_hash: str = "") -> None:
        """A message that was answered with a code."""
        self.counts["refusal", code] += 1
        line: dict[str, Any] = {"code": code, "step": step, "run": str(run), "app_hash": app_hash}
        self._write("refusal", line if round_ is None else {**line, "round": round_})

    def note(self, kind: str, **fields: str | float) -> None:
        """Something of the node itself: a start, a stop, a pause."""
        self.counts["event", kind] += 1
        self._write(kind, fields)

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        line = json.dumps({"at": round(time.time(), 3), "what": kind, **fields}, ensure_ascii=True)
        with self._lock:
            if self._file is None:
                _say(line)
                return
            # opened for each line, so that a log that was rotated away is followed
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                descriptor = os.open(self._file, flags, 0o600)
                try:
                    os.write(descriptor, line.encode() + b"\n")
                finally:
                    os.close(descriptor)
            except OSError as error:  # the vault's audit log is what must be written; this is a copy
                self.counts["event", "log-failed"] += 1
                _say(f"aegis: {self._file} cannot be written ({error.strerror}): {line}")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a closed pipe is the reader's matter
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _may(value: Any) -> bool:
    """Whether a field of an audit record may stand in a line."""
    if isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        return 0 < len(value) <= _TEXT_MOST and value.isprintable()
    return isinstance(value, list) and len(value) <= 4 and all(isinstance(v, str) and _may(v) for v in value)  # noqa: PLR2004
