"""Which epoch an iteration is: one counter for a dataset and for the copies of it in the workers of a loader.

A loader starts its workers anew for each epoch, or keeps them; either way they must agree on the epoch, and the next one
must be another. What they share is a small file of numbers (epochs, worker ids, the loader's seed), made when the dataset is
first pickled and removed with it. A copy outside of a loader's workers counts for itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Iterations of which it is still known who takes part.
_KEPT = 64


def worker() -> tuple[int, int] | None:
    """Seed of the loader and number of this worker of it; None outside of a torch worker. Does not import torch."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    # Workers that were started together have seeds that follow one another.
    return None if info is None else (int(info.seed) - int(info.id), int(info.id))


class Epochs:
    """The number of the next epoch."""

    def __init__(self, following: int = 0) -> None:
        self._following, self._path, self._copy = following, "", False

    @property
    def following(self) -> int:
        """The epoch that the next iteration will be."""
        with self._shared() as shared:
            return int(shared["following"])

    @property
    def elsewhere(self) -> bool:
        """Whether the last iteration was begun by a worker: where it stands is not known here."""
        with self._shared() as shared:
            return bool(shared["begun"]) and shared["begun"][-1][1] is not None

    def set(self, epoch: int) -> None:
        """The next iteration is that epoch, in every worker."""
        with self._shared() as shared:
            shared.update(following=epoch, begun=[])

    def begin(self, shard: tuple[int, int], epoch: int | None = None) -> int:
        """The epoch of an iteration that begins now: workers of one loader that begin together get the same one.

        Args:
            shard: what the iteration reads; a worker that reads two shards joins itself.
            epoch: the epoch it has, when it goes on with one.
        """
        me = worker()
        mine = None if me is None else [me[1], *shard]
        with self._shared() as shared:
            if me is not None:
                for one in reversed(shared["begun"]):
                    if one[1] == me[0] and mine not in one[2] and epoch in (None, one[0]):
                        one[2].append(mine)
                        return int(one[0])
            now = shared["following"] if epoch is None else epoch
            shared["following"] = now + 1
            shared["begun"] = [*shared["begun"], [now, me and me[0], [mine]]][-_KEPT:]
            return int(now)

    @contextlib.contextmanager
    def _shared(self) -> Iterator[dict[str, Any]]:
        """The counter, locked; changes are kept."""
        if not self._path or (self._copy and worker() is None):
            mine: dict[str, Any] = {"following": self._following, "begun": []}
            yield mine
            self._following = mine["following"]
            return
        try:
            opened = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # The dataset it was copied from is gone.
            self._path = ""
            with self._shared() as alone:
                yield alone
            return
        with os.fdopen(opened, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = json.load(file)
            before = json.dumps(known)
            yield known
            if (after := json.dumps(known)) != before:
                file.seek(0)
                file.write(after)
                file.truncate()

    def __getstate__(self) -> dict[str, Any]:
        following = self.following
        if not self._path:
            opened, self._path = tempfile.mkstemp(prefix="aegis-epochs-", suffix=".json")
            with os.fdopen(opened, "w") as file:
                json.dump({"following": following, "begun": []}, file)
            weakref.finalize(self, _removed, self._path, os.getpid())
        return {"_following": following, "_path": self._path, "_copy": True}


def _removed(path: str, owner: int) -> None:
    # A forked child has the finalizer, too, but not the file.
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            Path(path).unlink()


__all__ = ["Epochs", "worker"]
