"""Memory: how far this node has gone in each run, kept in its vault, so that a state put back elsewhere is found.

One small sealed file per vault, ``<vault>/privacy/answered``, whose count and MAC the keystore commits. Whoever keeps Flower's
state for the node (in a simulation that is the server) cannot write it; whoever writes the vault's folder can only make the
node refuse: a file that is lost, damaged or older than the keystore knows remembers nothing, and no state is the newest then.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aegis_engine import Vault
from aegis_flower.errors import VaultError
from aegis_flower.files import write_atomically

_DOMAIN = "aegis/v1/answered"
_HEAD = "secagg.answered"
_RUNS = 512  # remembered per vault; a state of an older run is refused

Known = dict[str, list[str | int]]


class Memory:
    """The newest protocol state of one node in one run.

    Guarantees:
        - It is on disk before the state it speaks of leaves the process.
        - Only the state last stored counts as the newest.
    """

    def __init__(self, vault: Vault, run_id: int, node_id: int) -> None:
        self._vault, self._key = vault, f"{run_id}:{node_id}"
        self._file = Path(vault.path) / "privacy" / "answered"

    def is_newest(self, nonce: bytes, answers: int) -> bool:
        """Whether the state with this nonce and this number of answers is the last that was stored."""
        with self._locked():
            return self._read()[1].get(self._key) == [nonce.hex(), answers]

    def advance(self, nonce: bytes, answers: int) -> None:
        """Remembers a state, before it is stored."""
        with self._locked():
            count, known = self._read()
            known.pop(self._key, None)
            known[self._key] = [nonce.hex(), answers]
            body = json.dumps([count + 1, dict(list(known.items())[-_RUNS:])]).encode()
            write_atomically({self._file: self._vault.seal_blob(_DOMAIN, b"", body)})
            self._vault.commit_head(_HEAD, count + 1, self._vault.proof(_DOMAIN, body))

    def _read(self) -> tuple[int, Known]:
        """How often it was written, and what it remembers."""
        committed, mac = self._vault.head(_HEAD) or (0, b"")
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                body = self._vault.open_blob(_DOMAIN, b"", file.read())
        except (OSError, VaultError):
            return committed, {}
        count, known = json.loads(body)
        # One above what is committed: written, and the process ended before the commit.
        if count < committed or (count == committed and mac != self._vault.proof(_DOMAIN, body)):
            return committed, {}
        return count, known

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        lock = self._file.with_suffix(".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
