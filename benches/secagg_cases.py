"""The cases of `secagg.py`: how large they are, and each measured in a process of its own, once or in pairs."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import secagg_aegis as aegis
import secagg_flower as flower
from secagg_measure import Failed, forked
from secagg_print import Result, brief, number

SPARSE = (11, 7)  # shares and threshold, usual numbers with Flower


@dataclasses.dataclass(frozen=True)
class Size:
    """How large the cases are; `goals` says whether they are those the goals speak of."""

    goals: bool
    pairs: int
    client: tuple[int, int]  # n, d of the rows on one client
    complete: tuple[int, int]  # n, d of the unmask row in a complete graph
    sparse: tuple[int, int]  # and in a sparse one
    survive: tuple[int, ...]
    exact: tuple[int, int]  # n with Flower beside it, n without
    cohorts: tuple[int, ...]
    dims: tuple[int, ...]
    lost: tuple[int, ...] = (0, 10, 30)
    trips: bool = True


FULL = Size(
    goals=True,
    pairs=3,
    client=(100, 10**7),
    complete=(50, 10**6),
    sparse=(100, 10**7),
    survive=(10, 50, 100),
    exact=(1100, 10_000),
    cohorts=(10, 50, 100),
    dims=(10**5, 10**6, 10**7),
)
QUICK = Size(
    goals=False,
    pairs=1,
    client=(30, 10**6),
    complete=(20, 10**5),
    sparse=(20, 10**6),
    survive=(10, 20),
    exact=(40, 100),
    cohorts=(10, 20),
    dims=(10**4, 10**6),
)
TINY = Size(
    goals=False,
    pairs=1,
    client=(5, 1000),
    complete=(5, 20_000),
    sparse=(14, 1000),
    survive=(10,),
    exact=(12, 13),
    cohorts=(5, 14),
    dims=(1000,),
    lost=(0, 20),
    trips=False,
)

Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured: `work`, in a process of its own, on what `prepare` made in this one."""

    key: Key
    work: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None


class Cases:
    """Measures each case once, or in pairs; keeps the results, so that the rows share them."""

    def __init__(self, size: Size, limit: float) -> None:
        self.size, self.limit, self.start = size, limit, time.monotonic()
        self.kept: dict[Key, list[Result]] = {}
        self.prepared: dict[tuple[Any, ...], Any] = {}
        self.errors: list[str] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.start:6.0f} s  {text}", file=sys.stderr, flush=True)

    def prepare(self, make: Callable[..., Any], *args: Any) -> Any:
        """What is made once and handed down to the cases."""
        key = (make, *args)
        if key not in self.prepared:
            self.prepared[key] = make(*args)
        return self.prepared[key]

    def measure(self, case: Case) -> Result:
        self.say(" ".join(case.key))
        try:
            result: Result = forked(case.work, case.prepare())
        except Failed as failed:
            result = str(failed)
        except RuntimeError as error:  # the rest of a long run is worth having
            result = str(error)
            self.errors.append(f"{' '.join(case.key)}: {error}")
        self.kept.setdefault(case.key, []).append(result)
        self.say(f"    {brief(result)}")
        return result

    def once(self, case: Case) -> Result:
        """The median of what was measured for the case, measured now if it was not."""
        found = self.kept.get(case.key) or [self.measure(case)]
        good = [result for result in found if isinstance(result, dict)]
        return sorted(good, key=lambda result: result["cpu"])[len(good) // 2] if good else found[0]

    # -- cases ------------------------------------------------------------------------------------------------------

    def client(self, step: str, side: str, n: int, dim: int, *, sparse: bool) -> Case:
        if side == "aegis":
            key = ("client", step, side, graph(sparse), f"n={n}", f"d={dim}")
            return Case(key, lambda _: getattr(aegis.OneClient(n, dim, sparse=sparse), step)())
        shares = SPARSE if sparse else complete(n)
        dims = () if step == "share" else (dim,)
        key = ("client", step, side, f"k={shares[0]}", *(f"d={d}" for d in dims))
        return Case(key, lambda one: getattr(one, step)(*dims), lambda: self.prepare(flower.OneClient, *shares))

    def server(self, side: str, n: int, dim: int, percent: int, *, sparse: bool) -> Case:
        key = ("server", side, graph(sparse), f"n={n}", f"d={dim}", f"lost={percent}%")
        if side == "aegis":
            return Case(key, lambda _: aegis.unmask(n, dim, percent, sparse=sparse))
        shares = SPARSE if sparse else complete(n)
        real = n * shares[0] * dim <= 2 * 10**6

        def prepare() -> flower.Cohort:
            if not sparse and (flower.shared, n, *shares) not in self.prepared:
                self._in_time(n)
                self.say(f"flower: share steps of {n} clients with {shares[0]} shares")
            return self.prepare(flower.shared, n, *shares)

        return Case(key, lambda cohort: flower.unmask(cohort, dim, percent, real=real), prepare)

    def _in_time(self, n: int) -> None:
        """Whether the server of a complete graph of Flower's is within the limit, by the cases of this run: its time grows with
        n shares of n secrets, of n coefficients each."""
        share = self.once(self.client("share", "flower", n, 0, sparse=False))
        estimate = share["cpu"] * n if isinstance(share, dict) else 0.0
        others = [(k, r) for k, found in self.kept.items() for r in found if k[:3] == ("server", "flower", "complete")]
        known = [r["cpu"] * (n / int(k[3].removeprefix("n="))) ** 3 for k, r in others if isinstance(r, dict)]
        self._check(estimate + min(known, default=0.0))

    def _check(self, estimate: float) -> None:
        if estimate > self.limit:
            raise Failed(f"left out: > {self.limit:.0f} s (by an estimate, {number(estimate)} s)")


def graph(sparse: bool) -> str:
    return "sparse" if sparse else "complete"


def complete(n: int) -> tuple[int, int]:
    """Shares and threshold of Flower's where all are neighbours."""
    return n, round(0.6 * n)
