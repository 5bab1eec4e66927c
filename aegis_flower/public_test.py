"""A public test set at the server: a function of the user's measures each round's model. No node is asked, so no ε is spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, MetricRecord

from aegis_flower.errors import ConfigError
from aegis_flower.plugins import load

KEY = "evaluation.server"
FUNCTION = "evaluate"  # in a file, where no name is given
_NAMES_MAX, _NAME_MAX = 100, 100

Measure = Callable[[dict[str, npt.NDArray[Any]], int], Mapping[str, Any]]


class PublicTest:
    """Measures models on public data, and keeps what it found.

    A function that fails on the start model ends the run before anything is spent. Later it costs its number of that round and
    no more: the model has been paid for.

    Args:
        measure: gives numbers by name for arrays by name and the round that made them; 0 is the start model.
        problems: where to say what went wrong, once.

    Attributes:
        found: numbers by name, by round.
    """

    def __init__(self, measure: Measure, problems: list[str]) -> None:
        self._measure, self._problems = measure, problems
        self.found: dict[int, dict[str, float]] = {}
        self._failed = False

    @classmethod
    def of(cls, text: str, problems: list[str]) -> PublicTest:
        """The one that a configuration names.

        Raises:
            ConfigError: there is no such function.
        """
        function = load(KEY, text, FUNCTION)
        if not callable(function):
            raise ConfigError(KEY, f"{text} is no function, but a {type(function).__name__}")
        return cls(function, problems)

    def __call__(self, round_: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Measures one model; None where that failed.

        Raises:
            ConfigError: it failed on the start model.
        """
        try:
            found = _numbers(self._measure({name: array.numpy() for name, array in arrays.items()}, round_))
        except Exception as error:
            said = f"the public test set could not be measured: {type(error).__name__}: {error}"
            if round_ == 0:
                raise ConfigError(KEY, f"{said}; nothing was asked of any node") from error
            if not self._failed:
                self._problems.append(f"{said} (round {round_})")
            self._failed = True
            return None
        self.found[round_] = found
        return MetricRecord({**found}) if found else None


def _numbers(given: object) -> dict[str, float]:
    """Numbers by name, checked.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"the function returned a {type(given).__name__}; return numbers by name, such as accuracy")
    if len(given) > _NAMES_MAX:
        raise ValueError(f"the function returned more than {_NAMES_MAX} numbers")
    found = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _NAME_MAX:
            raise ValueError(f"{name!r} is no name of a number")
        if isinstance(value, bool) or np.ndim(value) != 0:
            raise TypeError(f"{name} is a {type(value).__name__}, and not a number")
        found[name] = float(value)
        if not math.isfinite(found[name]):
            raise ValueError(f"{name} is {found[name]}")
    return found
