"""Memory: how far this node has gone in each run, kept in its vault, so that a state put back elsewhere is found.

One small sealed file per vault, ``<vault>/privacy/answered``. Whoever keeps Flower's state for the node (in a simulation that
is the server) cannot write it; whoever can write the vault's folder can only make the node refuse.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aegis_engine import Vault
from aegis_flower.errors import StaleState, VaultError
from aegis_flower.files import write_atomically

_DOMAIN = "aegis/v1/answered"
_RUNS = 512  # remembered per vault; a state of an older run is refused


class Memory:
    """The newest protocol state of one node in one run.

    Guarantees:
        - It is on disk before the state it speaks of leaves the process.
        - Only the state last stored counts as the newest; with the file lost or older, none does.
    """

    def __init__(self, vault: Vault, run_id: int, node_id: int) -> None:
        self._vault, self._key = vault, f"{run_id}:{node_id}"
        self._file = Path(vault.path) / "privacy" / "answered"

    def is_newest(self, nonce: bytes, answers: int) -> bool:
        """Whether the state with this nonce and this number of answers is the last that was stored."""
        with self._locked():
            return self._read().get(self._key) == [nonce.hex(), answers]

    def advance(self, nonce: bytes, answers: int) -> None:
        """Remembers a state, before it is stored."""
        with self._locked():
            known = self._read()
            known.pop(self._key, None)
            known[self._key] = [nonce.hex(), answers]
            kept = dict(list(known.items())[-_RUNS:])
            write_atomically({self._file: self._vault.seal_blob(_DOMAIN, b"", json.dumps(kept).encode())})

    def _read(self) -> dict[str, list[str | int]]:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StaleState(f"{self._file} cannot be read: {error.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            sealed = file.read()
        try:
            found: dict[str, list[str | int]] = json.loads(self._vault.open_blob(_DOMAIN, b"", sealed))
        except (VaultError, ValueError):
            raise StaleState(
                f"{self._file} is damaged or of another vault: it remembers which rounds this node has masked; find out who "
                "changed it, delete it, and start the runs anew"
            ) from None
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(
            self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
