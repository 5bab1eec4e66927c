"""The objective: the number by which the trials of a sweep are compared, by readers and by a sweeper such as Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aegis_flower.configs import SweepConfig
from aegis_flower.configs.training import PUBLIC
from aegis_flower.report.model import RunReport


def value(sweep: SweepConfig, report: RunReport | None) -> float | None:
    """The objective of a trial; None where its report has none."""
    if report is None:
        return None
    results = report.results
    if sweep.objective.startswith(PUBLIC):
        return results.public_metrics.get(sweep.objective.removeprefix(PUBLIC))
    return results.accuracy if sweep.objective == "accuracy" else results.loss


def worst(sweep: SweepConfig) -> float:
    """What a sweeper is told of a trial without a value: nothing is worse."""
    if sweep.direction == "minimize":
        return math.inf
    return 0.0 if sweep.objective == "accuracy" else -math.inf


def of(report: RunReport | None) -> SweepConfig | None:
    """The objective that a trial's configuration names."""
    found: Any = (report.config.resolved if report is not None else {}).get("sweep")
    if not isinstance(found, Mapping) or not {"objective", "direction"} <= found.keys():
        return None
    return SweepConfig(str(found["objective"]), str(found["direction"]))


def best(reports: Sequence[RunReport | None]) -> tuple[int, SweepConfig, float] | None:
    """Place, objective and value of the best finished trial, of equals the first; None where they are not comparable."""
    finished = [(i, r) for i, r in enumerate(reports) if r is not None and r.run.status == "finished"]
    objectives = {of(report) for _, report in finished}
    (sweep,) = objectives if len(objectives) == 1 else (None,)
    if sweep is None:
        return None
    values = [(i, found) for i, report in finished if (found := value(sweep, report)) is not None]
    if len(values) < 2:  # noqa: PLR2004 - one trial is compared with nothing
        return None
    sign = -1 if sweep.direction == "minimize" else 1
    place, found = max(values, key=lambda each: (sign * each[1], -each[0]))
    return place, sweep, found
