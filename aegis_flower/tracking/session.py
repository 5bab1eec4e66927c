"""The trackers of one run: made before anything is spent, told of each round once it is complete, and never in the way."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from aegis_flower.configs import Config
from aegis_flower.errors import ConfigError
from aegis_flower.ledger import RoundMechanism, epsilon
from aegis_flower.plugins import load
from aegis_flower.report import RunReport, write_report
from aegis_flower.server import Outcome
from aegis_flower.strategies import OnRound, RoundRecord
from aegis_flower.strategies.rounds import Stop
from aegis_flower.tracking.protocol import Measured, Run, Tracker

KEY = "tracking.to"
# Module and class of each that comes with AEGIS, and the package that it needs.
_OWN = {
    "csv": ("csv_file", "Csv"),
    "tensorboard": ("tensorboard_events", "TensorBoard"),
    "mlflow": ("mlflow_files", "MLflow"),
    "wandb": ("wandb_offline", "WandB"),
}


class Trackers:
    """Hands a run's numbers to its trackers.

    Guarantees:
        - What a tracker gets is in the report, too: sums over nodes with their noise, bounds, counts of nodes; of a node nothing.
        - A tracker that raises costs the run nothing. The report says so once, and that tracker gets no more.
        - Rounds come in order, each once, and complete: what is measured of a round's model comes with the round that made it.

    Args:
        cfg: the experiment.
        outcome: of the run; its problems go into the report.
        trackers: by name.
    """

    def __init__(self, cfg: Config, outcome: Outcome, trackers: Mapping[str, Tracker]) -> None:
        self._cfg, self._outcome = cfg, outcome
        self._trackers = dict(trackers)
        self._open: dict[int, dict[str, float]] = {}
        self._asked = 0

    @classmethod
    def of(cls, cfg: Config, outcome: Outcome) -> Trackers:
        """Those of a configuration.

        Raises:
            ConfigError: one needs a package that is not installed, or is no tracker.
        """
        made = cls(cfg, outcome, {name: _made(name) for name in cfg.tracking.to})
        if made._trackers:
            outcome.on_public = made.public
        return made

    def start(self, folder: Path) -> None:
        """Tells them that the run begins.

        Args:
            folder: of the run.
        """
        if not self._trackers:
            return
        cfg, store = self._cfg, self._cfg.tracking.folder
        run = Run(str(self._outcome.run_id), cfg.name, folder, Path(store) if store else folder, self._tags())
        self._each(lambda tracker: tracker.start(cfg, run))

    def hear(self, on_round: OnRound | None) -> OnRound:
        """`on_round` for the run: the trackers, then the given one."""

        def heard(record: RoundRecord) -> Stop | None:
            self.note(record)
            return on_round(record) if on_round is not None else None

        return heard

    def note(self, record: RoundRecord) -> None:
        """Takes a finished round. The rounds before it are complete then, for its metrics are of the model that was sent."""
        if not self._trackers:
            return
        found = self._outcome.metrics.read(record.metrics)
        if record.task != "train":
            self._values(record.round).update(found)
            return
        if found:
            self._values(record.round - 1).update(found)
        self._flush(before=record.round)
        self._asked += 1
        values = self._values(record.round)
        values |= {
            "participants": float(len(record.participants)),
            "lost": float(len(record.lost)),
            "seconds": float(record.seconds.get("total", 0.0)),
            "bytes_up": float(record.bytes_up),
        }
        bound = _bound(self._cfg, self._outcome.noise_multiplier, self._asked)
        if bound is not None:
            values["epsilon_bound"] = bound

    def public(self, round_: int, numbers: Mapping[str, float]) -> None:
        """Takes what a public test set says of a round's model."""
        self._values(round_).update({f"public/{name}": value for name, value in numbers.items()})

    def end(self, report: RunReport, folder: Path) -> RunReport:
        """Tells them that the run is over; gives the report, which is written anew where a tracker failed only here.

        Args:
            report: as it is written.
            folder: of the run.
        """
        if not self._trackers:
            return report
        known = len(self._outcome.problems)
        self._flush(before=None)
        self._each(lambda tracker: tracker.end(report))
        if more := self._outcome.problems[known:]:
            run = dataclasses.replace(report.run, warnings=(*report.run.warnings, *more))
            report = dataclasses.replace(report, run=run)
            write_report(report, folder, html=self._cfg.tracking.html)
        return report

    # -- inside -----------------------------------------------------------------------------------------------------

    def _values(self, round_: int) -> dict[str, float]:
        return self._open.setdefault(round_, {})

    def _flush(self, before: int | None) -> None:
        for round_ in sorted(r for r in self._open if before is None or r < before):
            measured = Measured(round_, dict(self._open.pop(round_)))
            if measured.values:
                self._each(lambda tracker, measured=measured: tracker.round(measured))  # type: ignore[misc]

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                tell(tracker)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a tracker's fault is no reason to lose a run
                del self._trackers[name]
                self._outcome.problems.append(
                    f"the tracker {name} failed and got no more: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
                )

    def _tags(self) -> dict[str, str]:
        cfg = self._cfg
        whole = _bound(cfg, self._outcome.noise_multiplier, cfg.strategy.rounds)
        private = cfg.privacy.on and cfg.privacy.noise == "secure"
        return {
            "config_sha256": cfg.sha256,
            "epsilon": f"{whole:.4g}" if whole is not None and private else "none",
            "delta": f"{cfg.privacy.delta:g}" if private else "none",
            "private": str(private).lower(),
            "secure_aggregation": str(cfg.secagg.enabled).lower(),
        }


def _bound(cfg: Config, sigma: float, rounds: int) -> float | None:
    """The most that so many rounds cost a record, if the nodes do what the configuration says."""
    if cfg.privacy.mode == "off" or not sigma:
        return None
    mechanism = RoundMechanism.of(cfg.privacy, sigma)
    return epsilon({mechanism.step: rounds * mechanism.steps}, cfg.privacy.delta)


def _made(name: str) -> Tracker:
    """The tracker that a name stands for.

    Raises:
        ConfigError: its package is not installed, or the class is no tracker.
    """
    if name in _OWN:
        module, cls = _OWN[name]
        try:
            make = getattr(importlib.import_module(f"aegis_flower.tracking.{module}"), cls)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("aegis_flower"):
                raise
            raise ConfigError(
                KEY,
                f"{name} needs the package {error.name}, which is not installed: pip install 'aegis-flower[{name}]'",
            ) from None
    else:
        make = load(KEY, name)
    try:
        tracker: Any = make()
    except Exception as error:
        raise ConfigError(KEY, f"{name} cannot be made without arguments: {type(error).__name__}: {error}") from error
    lacking = [each for each in ("start", "round", "end") if not callable(getattr(tracker, each, None))]
    if lacking:
        raise ConfigError(KEY, f"{name} has no {', '.join(lacking)}(); a tracker has start, round and end")
    return cast("Tracker", tracker)
