"""What both sides of `secagg.py` are measured with: CPU seconds, peak memory, fresh processes, the vectors."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

STATUS = Path("/proc/self/status")


class Meter:
    """CPU seconds of all threads of this process, and wall seconds, over one or more ``with`` blocks."""

    cpu = wall = 0.0

    def __enter__(self) -> Self:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time() - self._cpu
        self.wall += time.perf_counter() - self._wall


class Peak:
    """How far resident memory rose above its size at the start of the block, in MB of 10^6 bytes.

    The kernel's high-water mark is reset first; where that is not allowed the figure is None, not a guess.
    """

    mb: float | None = None

    def __enter__(self) -> Self:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is taken now
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self.start: float | None = resident("VmRSS")
        except OSError:
            self.start = None
        return self

    def __exit__(self, *_: object) -> None:
        if self.start is not None:
            self.mb = max(0.0, resident("VmHWM") - self.start)

    def above(self, before: Peak) -> float | None:
        """The peak of two blocks, one after the other, above the start of the first."""
        if self.mb is None or before.mb is None or self.start is None or before.start is None:
            return None
        return max(before.mb, self.start - before.start + self.mb)


def resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


class Failed(Exception):
    """A case that gave no figure; the text is the reason."""


def forked(work: Callable[..., Any], *args: Any) -> Any:
    """`work(*args)` in a process of its own, so that neither memory nor state of one case is seen by the next.

    The parent has imported everything and runs no threads; it hands down what was prepared and keeps its own copy.

    Raises:
        Failed: the case gave no figure, which is a result.
        RuntimeError: something else went wrong, which is none; a mean that is not the plain one, for example.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            result = ("figures", work(*args))
        except Failed as failed:
            result = ("failed", str(failed))
        except BaseException as error:  # noqa: BLE001 - all of it goes to the parent, which knows the case
            result = ("error", f"{type(error).__name__}: {error}")
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(child, 0)
    if not raw:
        raise RuntimeError("its process was killed; too little memory?")
    kind, value = pickle.loads(raw)
    if kind == "figures":
        return value
    raise (Failed if kind == "failed" else RuntimeError)(value)


def vectors(dim: int) -> list[np.ndarray]:
    """Two updates; client i has number i % 2. Small beside both clips, as updates are."""
    rng = np.random.default_rng(dim)
    return [rng.normal(0, 0.02, dim).astype(np.float32) for _ in range(2)]


def lost_of(n: int, percent: int) -> set[int]:
    """Which of the nodes 1 to n are lost, spread over all."""
    count = n * percent // 100
    return {1 + place * n // count for place in range(count)}


def difference(mean: np.ndarray, nodes: list[int], updates: list[np.ndarray]) -> float:
    """The largest difference from the plain mean of these nodes' updates, all with the same weight."""
    plain = np.zeros(len(updates[0]))
    for kind, update in enumerate(updates):
        plain += update * (sum(node % 2 == kind for node in nodes) / len(nodes))
    return float(np.abs(mean - plain).max())


def measured(server: Meter, summing: Meter, peak: Peak, off: float) -> dict[str, float | None]:
    """What both sides say of a round: the server's unmasking, with the sum of masked vectors, and how far the mean is off."""
    return {
        "cpu": server.cpu,
        "wall": server.wall,
        "cpu_sum": server.cpu + summing.cpu,
        "peak": peak.mb,
        "difference": off,
    }
