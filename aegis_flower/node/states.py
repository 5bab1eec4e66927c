"""States: the protocol's state of each run, kept by the node itself, sealed in its vault.

A service that outlives its messages keeps its state here and takes none from Flower: a run goes on after the SuperNode, the
node or both were killed. One file for each run, ``<vault>/privacy/states/NAME.NONCE``, and one small index that says which nonce
is the newest; the keystore commits the index's count and MAC, as `memory` does. An answer leaves only after its state is
committed, so a crash at any step leaves the state before a message that was never answered, or the one after it.

Whoever writes the vault's folder can only make the node refuse: when the index is lost, damaged or older than the keystore
knows, every run that used data here before is refused, by the audit log.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aegis_engine import Vault
from aegis_flower.errors import StaleState, VaultError
from aegis_flower.files import write_atomically

_INDEX: Final = "aegis/v1/node-states"
_STATE: Final = "aegis/v1/node-state"
_HEAD: Final = "node.states"
_RUNS: Final = 512  # whose state is kept; older ones are refused
_NONCE: Final = 16


@dataclass
class _Index:
    """Which state of each run is the newest.

    Attributes:
        count: how often it was written.
        whole: whether it is the one that the keystore knows.
        runs: nonces by run, oldest first.
        since: runs with an audit record before this number, and no state here, are old ones.
    """

    count: int
    whole: bool
    runs: dict[str, str] = field(default_factory=dict)
    since: int = 0


class States:
    """The states of all runs of one vault.

    Guarantees:
        - `keep` returns when the state is on disk and committed; until then `read` gives the one before.
        - A state that was put back is refused, alone or with the index; so is a run whose state is lost.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._folder = Path(vault.path) / "privacy" / "states"
        self._file = self._folder / "index"
        self._mutex = threading.Lock()  # flock is of the process

    def read(self, run: int, node: int) -> bytes | None:
        """The newest state of a run; None where it has none yet.

        Raises:
            StaleState: it had one, which is lost or was put back.
        """
        key = f"{run}:{node}"
        with self._locked():
            index = self._read()
            nonce = index.runs.get(key)
            if nonce is None:
                self._is_new(run, index)
                return None
            try:
                return self._vault.open_blob(_STATE, f"{key}:{nonce}".encode(), _bytes(self._path(key, nonce)))
            except (OSError, VaultError):
                raise StaleState(
                    f"the state of run {run} that this node keeps in {self._folder} is damaged or was put back; masks are used "
                    "once, so start the run anew and look at who writes there"
                ) from None

    def keep(self, run: int, node: int, plain: bytes) -> None:
        """Stores a state as the newest of its run."""
        key, nonce = f"{run}:{node}", os.urandom(_NONCE).hex()
        with self._locked():
            index = self._read()
            old = index.runs.pop(key, None)
            if old is None:
                self._is_new(run, index)
            sealed = self._vault.seal_blob(_STATE, f"{key}:{nonce}".encode(), plain)
            write_atomically({self._path(key, nonce): sealed})
            since = index.since if index.whole else self._vault.audit_head()[0]
            runs = {**index.runs, key: nonce}
            if len(runs) > _RUNS:
                since = self._vault.audit_head()[0]
            kept = dict(list(runs.items())[-_RUNS:])
            body = json.dumps([index.count + 1, since, kept]).encode()
            write_atomically({self._file: self._vault.seal_blob(_INDEX, b"", body)})
            self._vault.commit_head(_HEAD, index.count + 1, self._vault.proof(_INDEX, body))
            self._sweep({self._path(k, n).name for k, n in kept.items()})

    def _is_new(self, run: int, index: _Index) -> None:
        """Refuses a run without a state that this vault's data were used for before."""
        last = self._vault.audit_find_last("authorize", "run", str(run))
        if last is not None and (not index.whole or int(last["seq"]) < index.since):
            raise StaleState(
                f"run {run} has used this vault's data, and the state that this node kept for it in {self._folder} is gone: it "
                "was lost, or an older one put in its place; masks are used once, so start the run anew"
            )

    def _read(self) -> _Index:
        committed, mac = self._vault.head(_HEAD) or (0, b"")
        try:
            body = self._vault.open_blob(_INDEX, b"", _bytes(self._file))
        except FileNotFoundError:
            return _Index(committed, committed == 0)
        except (OSError, VaultError):
            return _Index(committed, False)
        count, since, runs = json.loads(body)
        # One above what is committed: written, and the process ended before the commit. No answer left with it.
        if count < committed or (count == committed and mac != self._vault.proof(_INDEX, body)):
            return _Index(committed, False)
        return _Index(count, True, runs, since)

    def _path(self, key: str, nonce: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.{nonce}"

    def _sweep(self, kept: set[str]) -> None:
        """Removes what a newer state replaced, and what a crash left."""
        for file in self._folder.iterdir():
            if file.name not in kept and file.name not in ("index", "lock"):
                with contextlib.suppress(OSError):
                    file.unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with self._mutex:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._folder / "lock", flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)


def _bytes(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
