"""Tasks: what an app is asked for in a round, and what came of it as an update."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aegis_flower.jail import Ended, Jail, Limits, Result, Work
from aegis_flower.jailed.rows import Arrays
from aegis_flower.weights import NDArrays

log = logging.getLogger("aegis")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """What a round asks of an app, beside the rows.

    Attributes:
        entry: ``module:function``.
        names: of the model's arrays, in order.
        parameters: the model's arrays.
        settings: numbers, flags and texts; public.
    """

    entry: str
    names: tuple[str, ...]
    parameters: NDArrays
    settings: Mapping[str, Any] = field(default_factory=dict)

    def work(self, rows: Arrays) -> Work:
        """The task over some rows."""
        return Work(self.entry, dict(zip(self.names, self.parameters, strict=True)), rows, self.settings)

    @property
    def size(self) -> int:
        """Values of the model."""
        return sum(a.size for a in self.parameters)

    def update(self, result: Result) -> Floats | None:
        """What the app changed, as one vector. None of a task that did not end as it should."""
        if result.ended is not Ended.DONE or result.update is None:
            return None
        before = np.concatenate([np.asarray(a, np.float32).ravel() for a in self.parameters])
        with np.errstate(over="ignore", invalid="ignore"):  # the engine makes zeros of what is not finite
            return np.ascontiguousarray(result.update - before)


def run(jail: Jail, asked: Asked, rows: Arrays, limits: Limits, what: str) -> Floats | None:
    """Runs one task. What it printed and how it ended stay in this node's log.

    Raises:
        JailError: the jail itself failed; no app is at fault.
    """
    result = jail.run(asked.work(rows), limits)
    say(result, what)
    return asked.update(result)


def say(result: Result, what: str) -> None:
    """Notes a task in the node's own log; nobody else reads it."""
    words = result.log.strip()
    if result.ended is Ended.DONE:
        log.debug("aegis: %s took %.2f s of CPU%s", what, result.cpu_seconds, f"; it said: {words}" if words else "")
        return
    log.warning(
        "aegis: %s did not end as it should (%s, %.2f s of CPU), and counts as no change; the server does not learn it%s",
        what,
        result.ended.name.lower(),
        result.cpu_seconds,
        f". It said: {words[-2000:]}" if words else "",
    )


def shapes(names: Sequence[str], parameters: NDArrays) -> str:
    """For errors: the first few arrays by name and shape."""
    told = [f"{name} {a.shape}" for name, a in zip(names, parameters, strict=False)]
    return ", ".join(told[:5]) + (", ..." if len(told) > 5 else "")  # noqa: PLR2004 - a line
